//! Messages that were written with a schema, and the registry that knows it: a server of its own on loopback.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    decode::Decoder,
    domain::outcome::Reason,
    observe::health::{Condition, Health},
    registry::Registry,
};
use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::get,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpListener;

const ALERT: &str = r#"{"type":"record","name":"Alert","namespace":"soc","fields":[{"name":"id","type":"string"},{"name":"severity","type":"string"}]}"#;
const PAGE: &str = r#"{"type":"record","name":"Page","namespace":"soc","fields":[{"name":"value","type":{"type":"array","items":"soc.Alert"}}]}"#;
const ID: &str = "da637551227677560813_-961444813";

/// What the server was asked, and how often it is out of order first.
#[derive(Default)]
struct Asked {
    questions: AtomicUsize,
    out_of_order: AtomicUsize,
}

async fn schema(
    State(asked): State<Arc<Asked>>,
    Path(id): Path<u32>,
    headers: HeaderMap,
) -> Result<String, (StatusCode, &'static str)> {
    asked.questions.fetch_add(1, Ordering::Relaxed);
    if headers.get(AUTHORIZATION).is_none_or(|value| value != "Basic c29jOnNlc2FtZQ==") {
        return Err((StatusCode::UNAUTHORIZED, ""));
    }
    if asked.out_of_order.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        return Err((StatusCode::INTERNAL_SERVER_ERROR, ""));
    }
    let told = match id {
        1 => json!({ "schema": ALERT }),
        2 => json!({ "schema": "{}", "schemaType": "JSON" }),
        3 => json!({ "schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF" }),
        4 => json!({ "schema": PAGE, "references": [{ "name": "soc.Alert", "subject": "alert", "version": 7 }] }),
        5 => json!({ "schema": "\"soc.A\"", "references": [{ "name": "a", "subject": "ring", "version": 1 }] }),
        6 => return Err((StatusCode::INTERNAL_SERVER_ERROR, "")),
        7 => return Err((StatusCode::NOT_FOUND, "no such page")),
        _ => return Err((StatusCode::NOT_FOUND, r#"{"error_code":40403,"message":"Schema not found"}"#)),
    };
    Ok(told.to_string())
}

async fn version(Path((subject, version)): Path<(String, u32)>) -> String {
    if subject == "ring" {
        let ring = json!([{ "name": "a", "subject": "ring", "version": 1 }]);
        return json!({ "schema": "{}", "references": ring }).to_string();
    }
    assert_eq!((subject.as_str(), version), ("alert", 7));
    json!({ "subject": "alert", "version": 7, "id": 1, "schema": ALERT }).to_string()
}

/// The registry's client, the server behind it, and what it says of itself.
async fn registry(out_of_order: usize, password: &str) -> (Registry, Arc<Asked>, Health) {
    let asked = Arc::new(Asked { out_of_order: out_of_order.into(), ..Asked::default() });
    let router = Router::new()
        .route("/base/schemas/ids/{id}", get(schema))
        .route("/base/subjects/{subject}/versions/{version}", get(version))
        .with_state(asked.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    let health = Health::new(Clock::machine());
    let client = alert_ips::defender::transport::builder(Duration::from_secs(5), None, None).unwrap().build().unwrap();
    let user = ("soc".to_owned(), password.into());
    (Registry::new(client, url.parse().unwrap(), Some(user), health.part("schema registry")), asked, health)
}

fn framed(id: u8, body: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id], body].concat()
}

fn avro() -> Vec<u8> {
    let schema = Schema::parse_str(ALERT).unwrap();
    let fields = [("id", ID), ("severity", "High")].map(|(name, value)| (name.to_owned(), Value::String(value.into())));
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(Value::Record(fields.to_vec())).unwrap()
}

fn ids(json: &[u8]) -> Vec<String> {
    let alerts = Decoder::default().decode_made(json, json.len(), Timestamp::UNIX_EPOCH).alerts;
    alerts.into_iter().map(|indexed| indexed.alert.id.as_str().to_owned()).collect()
}

#[tokio::test]
async fn what_was_written_with_a_schema_is_read_and_each_schema_asked_for_once() {
    let (registry, asked, _) = registry(0, "sesame").await;
    for _ in 0..3 {
        let json = registry.json(&framed(1, &avro())).await.unwrap().unwrap();
        assert_eq!(ids(&json), [ID]);
    }
    assert_eq!(asked.questions.load(Ordering::Relaxed), 1);
    let page = [&[2][..], &avro(), &[0]].concat();
    assert_eq!(ids(&registry.json(&framed(4, &page)).await.unwrap().unwrap()), [ID], "a schema that refers to another");
    let plain = format!(r#"{{"id":"{ID}"}}"#);
    assert_eq!(registry.json(&framed(2, plain.as_bytes())).await.unwrap().unwrap(), plain.as_bytes());
    assert!(registry.json(plain.as_bytes()).await.is_none(), "no schema is named");
}

#[tokio::test]
async fn what_no_schema_reads_is_a_dead_letter_in_words() {
    let (registry, asked, _) = registry(0, "sesame").await;
    for (payload, words) in [
        (framed(3, b"x"), "of type PROTOBUF, which is not read"),
        (framed(9, b"x"), "the schema registry does not know schemas/ids/9"),
        (framed(5, b"x"), "refers to more than 100 schemas, or to itself"),
        (framed(1, b"\x02"), "does not fit its Avro schema"),
    ] {
        let rejection = registry.json(&payload).await.unwrap().unwrap_err();
        assert_eq!(rejection.reason, Reason::NotUnpacked);
        assert!(rejection.detail.contains(words), "{}", rejection.detail);
    }
    let before = asked.questions.load(Ordering::Relaxed);
    registry.json(&framed(9, b"y")).await.unwrap().unwrap_err();
    assert_eq!(asked.questions.load(Ordering::Relaxed), before, "an unknown schema is not asked for with each message");
}

#[tokio::test]
async fn while_the_registry_is_out_of_order_what_needs_it_waits_and_that_is_told() {
    let (registry, asked, health) = registry(1, "sesame").await;
    let registry = Arc::new(registry);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.json(&framed(1, &avro())).await.unwrap().unwrap() })
        })
        .collect();
    let told = async {
        while health.report()[0].condition == Condition::Ok {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), told).await.unwrap();
    let Condition::Waiting(words) = health.report()[0].condition.clone() else { panic!("{:?}", health.report()) };
    assert!(words.contains("500") && !words.contains("sesame"), "{words}");
    for json in waiting {
        assert_eq!(ids(&json.await.unwrap()), [ID]);
    }
    assert_eq!(health.report()[0].condition, Condition::Ok);
    assert_eq!(asked.questions.load(Ordering::Relaxed), 2, "one asks for all");
}

#[tokio::test]
async fn a_registry_that_does_not_know_who_asks_is_told_to_the_operator() {
    let (registry, _, health) = registry(0, "wrong").await;
    let payload = framed(1, &avro());
    let mut asked = Box::pin(registry.json(&payload));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut asked).await.is_err(), "it waits");
    let Condition::Waiting(words) = health.report()[0].condition.clone() else { panic!("{:?}", health.report()) };
    assert!(words.contains("401") && words.contains("input.schema_registry"), "{words}");
}

#[tokio::test]
async fn a_schema_that_cannot_be_told_holds_up_no_other_and_nothing_is_told_when_nobody_waits() {
    let (registry, _, health) = registry(0, "sesame").await;
    for id in [6, 7] {
        let payload = framed(id, b"x");
        let mut stuck = Box::pin(registry.json(&payload));
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut stuck).await.is_err(), "it waits");
        assert!(matches!(health.report()[0].condition, Condition::Waiting(_)));
        let json = tokio::time::timeout(Duration::from_secs(30), registry.json(&framed(1, &avro()))).await.unwrap();
        assert_eq!(ids(&json.unwrap().unwrap()), [ID]);
        drop(stuck);
        assert_eq!(health.report()[0].condition, Condition::Ok);
    }
}
