//! The form of entries in Kafka: one JSON object a message, readable with any tool.
//!
//! ```json
//! {"v":1,"writer":"00c0ffee00c0ffee","n":17,"instance":"host-1","entries":[
//!  {"claim":{"alert":"da637551227677560813_-961444813","severity":"high","reserved":true,"highs_wait":false}}]}
//! ```
//!
//! A message holds entries of one writer that follow each other; `n` is the number of the first. Points in time and
//! durations are whole nanoseconds, so that whoever reads them back reaches the same verdicts.

use std::{net::IpAddr, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::Error as _};

use super::{Answer, Body, Claim, Entry, EntryId, Freeze, Reached, WriterId};
use crate::domain::{
    alert::{AlertId, Severity},
    budget::{Checkpoint, DeclaredTerms, KnownWriter},
    limit::Limit,
    outcome::{Outcome, Status},
    related_ips::RelatedIps,
    terms::Terms,
    time::JournalTime,
};

/// The version this program writes. A reader that meets a newer one can't know what it rules, so it must not spend.
const VERSION: u32 = 1;

/// How a checkpoint of its own log begins. Within a text the quotes would be escaped.
const CHECKPOINT: &[u8] = br#"{"checkpoint":{"offset":"#;

/// Why a message holds no entries.
#[derive(Debug, thiserror::Error)]
pub enum InvalidMessage {
    #[error("it is of version {0}, and this program knows up to {VERSION}; update this instance")]
    Newer(u32),
    #[error("it is not what a message of the journal looks like: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// Writes entries of one writer that follow each other, at least one, as one message.
pub fn write_message(entries: &[Entry]) -> Vec<u8> {
    debug_assert!(
        entries
            .windows(2)
            .all(|pair| pair[0].id.writer == pair[1].id.writer && pair[0].id.number + 1 == pair[1].id.number),
        "entries of a message follow each other"
    );
    let Some(first) = entries.first() else { return Vec::new() };
    written(&Message {
        v: VERSION,
        writer: first.id.writer.to_string(),
        n: first.id.number,
        instance: (*first.instance).to_owned(),
        entries: entries.iter().map(|entry| (&entry.body).into()).collect(),
    })
}

fn written(message: &Message) -> Vec<u8> {
    // Texts and numbers always have a JSON form.
    let written = serde_json::to_vec(message);
    debug_assert!(written.is_ok(), "a message was not written");
    written.unwrap_or_default()
}

/// A message without entries, which counts for nothing with any reader: for trying whether one can be appended.
pub fn probe_message(writer: WriterId, instance: &str) -> Vec<u8> {
    written(&Message {
        v: VERSION,
        writer: writer.to_string(),
        n: 1,
        instance: instance.to_owned(),
        entries: Vec::new(),
    })
}

/// Reads what [`write_message`] wrote.
pub fn read_message(bytes: &[u8]) -> Result<Vec<Entry>, InvalidMessage> {
    let message: Message = serde_json::from_slice(bytes).map_err(|error| {
        // Only what can't be read otherwise is looked at twice: a checkpoint is long.
        match serde_json::from_slice(bytes) {
            Ok(Versioned { v }) if v > VERSION => InvalidMessage::Newer(v),
            _ => error.into(),
        }
    })?;
    if message.v > VERSION {
        return Err(InvalidMessage::Newer(message.v));
    }
    let writer = writer(&message.writer)?;
    let instance: Arc<str> = message.instance.into();
    let entries = (message.n..).zip(message.entries).map(|(number, body)| {
        let id = EntryId { writer, number };
        Ok(Entry { id, instance: instance.clone(), body: body.try_into()? })
    });
    entries.collect()
}

/// Whether a message holds a checkpoint of its log, without reading the whole of it.
pub fn holds_checkpoint(bytes: &[u8]) -> bool {
    bytes.windows(CHECKPOINT.len()).any(|window| window == CHECKPOINT)
}

#[derive(Deserialize)]
struct Versioned {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Message {
    v: u32,
    writer: String,
    n: u64,
    instance: String,
    entries: Vec<BodyDocument>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum BodyDocument {
    Terms(TermsDocument),
    Claim { alert: String, severity: String, reserved: bool, highs_wait: bool },
    Answer(AnswerDocument),
    Freeze { lasts: u64, why: String },
    Checkpoint(Box<CheckpointDocument>),
}

#[derive(Serialize, Deserialize)]
struct TermsDocument {
    /// Calls and the period they are for.
    limits: Vec<(u32, u64)>,
    share: f64,
    reserve: f64,
    max_in_flight: u32,
    claim_ttl: u64,
    call_timeout: u64,
    skew: u64,
}

#[derive(Serialize, Deserialize)]
struct AnswerDocument {
    /// The claim's writer and number.
    claim: (String, u64),
    alert: String,
    reached: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeDocument>,
}

#[derive(Serialize, Deserialize)]
struct OutcomeDocument {
    status: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ips: Vec<IpAddr>,
    retrieved_at: String,
}

#[derive(Serialize, Deserialize)]
struct CheckpointDocument {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    offset: Option<i64>,
    now: u64,
    frozen_until: u64,
    paced: u64,
    writers: Vec<(String, u64, u64, u64)>,
    /// Each distinct terms once: a fleet's are the same, and so are those of an instance that starts again and again.
    terms: Vec<TermsDocument>,
    /// Writer, which terms, and since when they are superseded.
    views: Vec<(String, usize, Option<u64>)>,
    windows: Vec<Vec<(u64, u32)>>,
    open: Vec<(String, u64, String, u64)>,
    refused: Vec<(String, u64, u64)>,
}

impl From<&Body> for BodyDocument {
    fn from(body: &Body) -> Self {
        match body {
            Body::Terms(terms) => Self::Terms(terms.into()),
            Body::Claim(Claim { alert, severity, reserved, highs_wait }) => Self::Claim {
                alert: alert.to_string(),
                severity: severity.to_string(),
                reserved: *reserved,
                highs_wait: *highs_wait,
            },
            Body::Answer(Answer { claim, alert, reached, status, outcome }) => Self::Answer(AnswerDocument {
                claim: (claim.writer.to_string(), claim.number),
                alert: alert.to_string(),
                reached: reached.as_str().to_owned(),
                status: *status,
                outcome: outcome.as_ref().map(|outcome| OutcomeDocument {
                    status: outcome.status.as_str().to_owned(),
                    ips: outcome.ips.as_slice().to_vec(),
                    retrieved_at: outcome.retrieved_at.to_string(),
                }),
            }),
            Body::Freeze(Freeze { lasts, why }) => Self::Freeze { lasts: nanos(*lasts), why: why.clone() },
            Body::Checkpoint(checkpoint) => Self::Checkpoint(Box::new((&**checkpoint).into())),
        }
    }
}

impl TryFrom<BodyDocument> for Body {
    type Error = serde_json::Error;

    fn try_from(document: BodyDocument) -> Result<Self, Self::Error> {
        Ok(match document {
            BodyDocument::Terms(terms) => Self::Terms(terms.try_into()?),
            BodyDocument::Claim { alert, severity, reserved, highs_wait } => Self::Claim(Claim {
                alert: alert_id(&alert)?,
                severity: Severity::parse(&severity),
                reserved,
                highs_wait,
            }),
            BodyDocument::Answer(AnswerDocument { claim, alert, reached, status, outcome }) => Self::Answer(Answer {
                claim: entry_id(&claim.0, claim.1)?,
                alert: alert_id(&alert)?,
                reached: Reached::ALL
                    .into_iter()
                    .find(|known| known.as_str() == reached)
                    .ok_or_else(|| Self::Error::custom("`reached` is unknown"))?,
                status,
                outcome: outcome.map(Outcome::try_from).transpose()?,
            }),
            BodyDocument::Freeze { lasts, why } => Self::Freeze(Freeze { lasts: Duration::from_nanos(lasts), why }),
            BodyDocument::Checkpoint(checkpoint) => Self::Checkpoint(Box::new((*checkpoint).try_into()?)),
        })
    }
}

impl TryFrom<OutcomeDocument> for Outcome {
    type Error = serde_json::Error;

    fn try_from(document: OutcomeDocument) -> Result<Self, Self::Error> {
        let OutcomeDocument { status, ips, retrieved_at } = document;
        let status = Status::ALL.into_iter().find(|known| known.as_str() == status);
        let status = status.ok_or_else(|| Self::Error::custom("the outcome's `status` is unknown"))?;
        let retrieved_at = retrieved_at.parse().map_err(Self::Error::custom)?;
        Ok(Self { status, ips: RelatedIps::from_addresses(ips), retrieved_at })
    }
}

impl From<&Terms> for TermsDocument {
    fn from(terms: &Terms) -> Self {
        Self {
            limits: terms.limits.iter().map(|limit| (limit.calls.get(), nanos(limit.per))).collect(),
            share: terms.share,
            reserve: terms.reserve,
            max_in_flight: terms.max_in_flight,
            claim_ttl: nanos(terms.claim_ttl),
            call_timeout: nanos(terms.call_timeout),
            skew: nanos(terms.skew),
        }
    }
}

impl TryFrom<TermsDocument> for Terms {
    type Error = serde_json::Error;

    fn try_from(document: TermsDocument) -> Result<Self, Self::Error> {
        let limit = |(calls, per): (u32, u64)| {
            let calls = calls.try_into().map_err(|_| Self::Error::custom("a limit of no calls"))?;
            Ok(Limit { calls, per: Duration::from_nanos(per) })
        };
        let terms = Self {
            limits: document.limits.into_iter().map(limit).collect::<Result<_, Self::Error>>()?,
            share: document.share,
            reserve: document.reserve,
            max_in_flight: document.max_in_flight,
            claim_ttl: Duration::from_nanos(document.claim_ttl),
            call_timeout: Duration::from_nanos(document.call_timeout),
            skew: Duration::from_nanos(document.skew),
        };
        // Whoever wrote others holds them against everybody, as long as they say.
        if terms.are_sound() { Ok(terms) } else { Err(Self::Error::custom("terms that no configuration has")) }
    }
}

impl From<&Checkpoint> for CheckpointDocument {
    fn from(checkpoint: &Checkpoint) -> Self {
        let writer =
            |known: &KnownWriter| (known.writer.to_string(), known.last, point(known.seen), point(known.highs_until));
        let mut terms: Vec<&Terms> = Vec::new();
        let mut views = Vec::new();
        for view in &checkpoint.views {
            let known = terms.iter().position(|terms| **terms == view.terms);
            let place = known.unwrap_or_else(|| {
                terms.push(&view.terms);
                terms.len() - 1
            });
            views.push((view.writer.to_string(), place, view.superseded.map(point)));
        }
        let entry = |(id, time): &(EntryId, JournalTime)| (id.writer.to_string(), id.number, point(*time));
        let call = |(id, alert, lapse): &(EntryId, AlertId, JournalTime)| {
            (id.writer.to_string(), id.number, alert.to_string(), point(*lapse))
        };
        let window = |points: &Vec<(JournalTime, u32)>| points.iter().map(|(free, n)| (point(*free), *n)).collect();
        Self {
            offset: checkpoint.offset,
            now: point(checkpoint.now),
            frozen_until: point(checkpoint.frozen_until),
            paced: point(checkpoint.paced),
            writers: checkpoint.writers.iter().map(writer).collect(),
            terms: terms.into_iter().map(TermsDocument::from).collect(),
            views,
            windows: checkpoint.windows.iter().map(window).collect(),
            open: checkpoint.open.iter().map(call).collect(),
            refused: checkpoint.refused.iter().map(entry).collect(),
        }
    }
}

impl TryFrom<CheckpointDocument> for Checkpoint {
    type Error = serde_json::Error;

    fn try_from(document: CheckpointDocument) -> Result<Self, Self::Error> {
        let known = |(name, last, seen, highs_until): (String, u64, u64, u64)| {
            let (seen, highs_until) = (time(seen), time(highs_until));
            Ok(KnownWriter { writer: writer(&name)?, last, seen, highs_until })
        };
        let terms: Vec<Terms> = document.terms.into_iter().map(Terms::try_from).collect::<Result<_, _>>()?;
        let view = |(name, place, superseded): (String, usize, Option<u64>)| {
            let terms = terms.get(place).cloned().ok_or_else(|| Self::Error::custom("a view of unknown terms"))?;
            Ok(DeclaredTerms { writer: writer(&name)?, terms, superseded: superseded.map(time) })
        };
        let entry = |(name, number, at): (String, u64, u64)| Ok((entry_id(&name, number)?, time(at)));
        let call = |(name, number, alert, lapse): (String, u64, String, u64)| {
            Ok((entry_id(&name, number)?, alert_id(&alert)?, time(lapse)))
        };
        let window = |points: Vec<(u64, u32)>| points.into_iter().map(|(free, slots)| (time(free), slots)).collect();
        let checkpoint = Self {
            offset: document.offset,
            now: time(document.now),
            frozen_until: time(document.frozen_until),
            paced: time(document.paced),
            writers: document.writers.into_iter().map(known).collect::<Result<_, Self::Error>>()?,
            views: document.views.into_iter().map(view).collect::<Result<_, Self::Error>>()?,
            windows: document.windows.into_iter().map(window).collect(),
            open: document.open.into_iter().map(call).collect::<Result<_, Self::Error>>()?,
            refused: document.refused.into_iter().map(entry).collect::<Result<_, Self::Error>>()?,
        };
        if checkpoint.is_sound() { Ok(checkpoint) } else { Err(Self::Error::custom("windows that are not the terms'")) }
    }
}

fn writer(text: &str) -> Result<WriterId, serde_json::Error> {
    u64::from_str_radix(text, 16)
        .map(WriterId)
        .map_err(|_| serde_json::Error::custom("`writer` is no 64-bit number in hex"))
}

fn entry_id(writer_text: &str, number: u64) -> Result<EntryId, serde_json::Error> {
    Ok(EntryId { writer: writer(writer_text)?, number })
}

fn alert_id(text: &str) -> Result<AlertId, serde_json::Error> {
    AlertId::parse(text).map_err(serde_json::Error::custom)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn point(time: JournalTime) -> u64 {
    nanos(time.since_origin())
}

fn time(nanos: u64) -> JournalTime {
    JournalTime::from_origin(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests;
