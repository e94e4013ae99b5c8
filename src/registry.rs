//! The schema registry: which schema a payload was written with, and so what JSON it is.
//!
//! A payload names its schema by a number, and the registry never changes what a number means; so each is asked for once.
//! While the registry can't be asked, what needs it waits, and that is told.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::{Mutex, RwLock},
    time::{Instant, sleep},
};
use url::Url;

use crate::{
    decode::{AvroSchema, not_unpacked, schema_id},
    domain::outcome::Rejection,
    observe::health::{Condition, Reporter},
};

/// How long it is waited between two questions that were not answered: at first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// So long a schema that the registry does not know, or that can't be read, is not asked for again.
const UNUSABLE_FOR: Duration = Duration::from_mins(1);

/// Largest answer that is read.
const MAX_ANSWER: usize = 4 << 20;

/// Most schemas that one refers to, those that these refer to included.
const MAX_REFERENCES: usize = 100;

/// Where schemas are asked for. One asks at a time.
pub struct Registry {
    client: Client,
    url: Url,
    /// The user's name and password.
    user: Option<(String, SecretString)>,
    known: RwLock<HashMap<u32, Known>>,
    asking: Mutex<()>,
    /// How many wait until it can be asked.
    waiting: AtomicUsize,
    health: Reporter,
}

/// What the registry says of a number.
#[derive(Clone)]
enum Known {
    Avro(Arc<AvroSchema>),
    Json,
    /// Why nothing can be read with it, and since when that is known.
    Unusable(String, Instant),
}

impl Known {
    /// Whether it is to be asked for again.
    fn is_outdated(&self) -> bool {
        matches!(self, Self::Unusable(_, since) if since.elapsed() >= UNUSABLE_FOR)
    }
}

/// A schema as the registry tells it (`GET /schemas/ids/{id}`, `GET /subjects/{subject}/versions/{version}`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    schema: String,
    /// Left out for Avro.
    schema_type: Option<String>,
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

/// Why a question has no answer.
enum Failure {
    /// It may have one later; in words.
    Passing(String),
    /// It is answered: there is none, or none that can be used.
    Lasting(String),
}

impl Registry {
    /// `client`: how it is reached. `health` is told whether it can be.
    pub fn new(client: Client, url: Url, user: Option<(String, SecretString)>, health: Reporter) -> Self {
        health.set(Condition::Ok);
        Self {
            client,
            url,
            user,
            known: RwLock::default(),
            asking: Mutex::default(),
            waiting: AtomicUsize::new(0),
            health,
        }
    }

    /// Whether the registry can be asked. The error is for the operator.
    pub async fn probe(&self) -> Result<(), String> {
        match self.get::<serde::de::IgnoredAny>(&["schemas", "types"]).await {
            Ok(_) => Ok(()),
            Err(Failure::Lasting(why) | Failure::Passing(why)) => Err(why),
        }
    }

    /// Says at the start that it can't be asked, before the first message that needs it waits.
    pub async fn look(&self) {
        if let Err(why) = self.probe().await {
            tracing::warn!(
                "the schema registry {} can't be asked: {why}; what is written with a schema will wait; check that it runs, and \
                 input.schema_registry",
                self.url
            );
        }
    }

    /// The JSON of a payload that names a schema; `None`: it names none. Waits for as long as the registry can't be asked.
    pub async fn json(&self, payload: &[u8]) -> Option<Result<Vec<u8>, Rejection>> {
        let (id, body) = schema_id(payload)?;
        Some(match self.schema(id).await {
            Known::Avro(schema) => schema.json(body),
            Known::Json => Ok(body.to_vec()),
            Known::Unusable(why, _) => Err(not_unpacked(format!("it was written with the schema {id}: {why}"))),
        })
    }

    async fn schema(&self, id: u32) -> Known {
        let mut waiting = None;
        let mut wait = RETRY.0;
        loop {
            if let Some(known) = self.known(id).await {
                return known;
            }
            let asking = self.asking.lock().await;
            // Whoever asked before may have asked the same.
            if let Some(known) = self.known(id).await {
                return known;
            }
            let known = match self.ask(id).await {
                Ok(known) => known,
                Err(Failure::Lasting(why)) => Known::Unusable(why, Instant::now()),
                Err(Failure::Passing(why)) => {
                    // Others may ask meanwhile: it may be about this schema alone.
                    drop(asking);
                    waiting.get_or_insert_with(|| Waiting::begin(self)).tell(&why);
                    sleep(wait).await;
                    wait = (wait * 2).min(RETRY.1);
                    continue;
                }
            };
            self.remember(id, &known).await;
            return known;
        }
    }

    async fn remember(&self, id: u32, known: &Known) {
        if let Known::Unusable(why, _) = known {
            tracing::warn!(schema = id, "records written with the schema {id} can't be read: {why}");
        }
        let mut all = self.known.write().await;
        // Whoever writes to the topic chooses the numbers.
        all.retain(|_, known| !known.is_outdated());
        all.insert(id, known.clone());
    }

    async fn known(&self, id: u32) -> Option<Known> {
        self.known.read().await.get(&id).filter(|known| !known.is_outdated()).cloned()
    }

    async fn ask(&self, id: u32) -> Result<Known, Failure> {
        let told: Told = self.get(&["schemas", "ids", &id.to_string()]).await?;
        match told.schema_type.as_deref() {
            None | Some("AVRO") => {
                let references = self.references(told.references.unwrap_or_default()).await?;
                let schema = AvroSchema::parse(&told.schema, &references);
                schema.map(Arc::new).map(Known::Avro).map_err(Failure::Lasting)
            }
            Some("JSON") => Ok(Known::Json),
            Some(other) => {
                Err(Failure::Lasting(format!("it is of type {}, which is not read", other.escape_default())))
            }
        }
    }

    /// The schemas that one refers to, each behind those that it refers to itself.
    async fn references(&self, asked: Vec<Reference>) -> Result<Vec<String>, Failure> {
        let mut open = asked;
        let mut texts: Vec<(String, i64, String)> = Vec::new();
        // One that several refer to is asked for by each, so that it comes before all of them: the questions are bounded.
        for _ in 0..MAX_REFERENCES {
            let Some(Reference { subject, version }) = open.pop() else {
                return Ok(texts.into_iter().rev().map(|(_, _, text)| text).collect());
            };
            texts.retain(|(known, number, _)| (known, *number) != (&subject, version));
            let told: Told = self.get(&["subjects", &subject, "versions", &version.to_string()]).await?;
            texts.push((subject, version, told.schema));
            open.extend(told.references.unwrap_or_default());
        }
        Err(Failure::Lasting(format!("it refers to more than {MAX_REFERENCES} schemas, or to itself")))
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, Failure> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.client.get(url);
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, Some(password.expose_secret()));
        }
        let passing = |error: reqwest::Error| Failure::Passing(error.without_url().to_string());
        let mut response = request.send().await.map_err(passing)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(passing)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(Failure::Lasting(format!("it is larger than {} MiB", MAX_ANSWER >> 20)));
            }
        }
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map_err(|error| Failure::Passing(format!("its answer is none of a schema: {error}"))),
            StatusCode::NOT_FOUND if is_about_a_schema(&body) => {
                Err(Failure::Lasting(format!("the schema registry does not know {}", path.join("/"))))
            }
            StatusCode::NOT_FOUND => Err(Failure::Passing(
                "it answers 404 as if it were no schema registry; is the path of input.schema_registry.url whole?"
                    .to_owned(),
            )),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Failure::Passing(format!(
                "it answers {status}: check username and password_file, which is read at the start"
            ))),
            status => Err(Failure::Passing(format!("it answers {status}"))),
        }
    }
}

/// Whether a 404 is a registry's word: a schema, a subject or a version that it does not know (codes from 40401 on), and not
/// an address that there is not.
fn is_about_a_schema(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Refusal {
        error_code: u32,
    }
    serde_json::from_slice(body).is_ok_and(|refusal: Refusal| (40_400..40_500).contains(&refusal.error_code))
}

/// Someone who waits for the registry. When the last of them is gone, nothing waits any more, whatever the registry does.
struct Waiting<'a>(&'a Registry);

impl<'a> Waiting<'a> {
    fn begin(registry: &'a Registry) -> Self {
        registry.waiting.fetch_add(1, Ordering::Relaxed);
        Self(registry)
    }

    fn tell(&self, why: &str) {
        self.0.health.set(Condition::Waiting(format!(
            "the schema registry {} can't be asked: {why}; what was written with a schema waits; check that it runs, and \
             input.schema_registry",
            self.0.url
        )));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.health.set(Condition::Ok);
        }
    }
}
