//! From what became of an alert to the records that say so.
//!
//! A format is one file that writes the payload and one line in `write`. The headers are the same for all but CloudEvents in
//! structured mode: CloudEvents 1.0 in binary mode (CloudEvents Kafka protocol binding 1.0, section 3.2), so a reader can tell
//! records apart and drop duplicates without opening a payload; and the trace context of the input.

mod cloud_events;
mod document;
mod ecs;
mod embedded;
mod ocsf;
mod sentinel;
mod splunk;
#[cfg(test)]
mod tests;
mod trace_context;

use std::{fmt::Write, net::IpAddr};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use self::embedded::Embedded;
use crate::domain::{
    alert::Alert,
    outcome::Outcome,
    output::{Granularity, Output, OutputFormat, Splunk},
    record::{Destination, Header, Outgoing, Receipt},
};

/// `ce_source`: a URI reference, as `CloudEvents` asks. With `ce_id` it is unique within a Kafka cluster.
pub const CE_SOURCE: &str = "/alert-ips";

/// `ce_type`: what the event is about. Its version is that of the meaning, not of one format.
pub const CE_TYPE: &str = "alert-ips.related-ips.v1";

/// A decided alert, and the message that it was in.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub receipt: &'a Receipt,
    /// The alert's place in the message.
    pub index: usize,
    pub alert: &'a Alert,
    /// The account's, used where the alert names none.
    pub tenant: &'a str,
    pub outcome: &'a Outcome,
    /// The message's headers.
    pub headers: &'a [Header],
    /// The alert as it stands in the message, for outputs that embed it.
    pub original: Option<&'a RawValue>,
}

/// The records of one alert, for each of the `outputs` those that it publishes, keyed by alert id.
///
/// The same arguments give the same bytes, and the same place always the same `ce_id`: topic, partition and offset of the
/// message, the alert's place in it, and, where an output has several records for it, the record's place among these.
pub fn encode(outputs: &[Output], subject: &Subject<'_>) -> Vec<Outgoing> {
    let Subject { receipt, index, alert, tenant, outcome, original, .. } = *subject;
    let retrieved_text = rfc3339_millis(outcome.retrieved_at);
    let place = format!("{}/{}/{}/{index}", receipt.partition.topic, receipt.partition.number, receipt.offset);
    let embedded = original.map(Embedded::of);
    let mut records = Vec::with_capacity(outputs.len());
    for (number, output) in (0..).zip(outputs) {
        let Some(ips) = output.wanted(outcome) else { continue };
        let parts = Parts::of(output, &ips);
        for (part, ips) in parts.iter() {
            let id = if parts.is_whole() { place.clone() } else { format!("{place}/{part}") };
            let mut related = Related {
                alert,
                tenant: alert.tenant.as_deref().unwrap_or(tenant),
                outcome,
                retrieved_text: &retrieved_text,
                id: &id,
                granularity: output.granularity,
                ips,
                all_ips: outcome.ips.as_slice().len(),
                part,
                parts: parts.count(),
                embedded: embedded.as_ref().filter(|_| output.include_alert),
                splunk: &output.splunk,
            };
            let mut record = Outgoing {
                to: Destination::Output(number),
                key: Some(alert.id.as_str().as_bytes().into()),
                payload: Some(write(output.format, &related).into()),
                headers: headers(output, subject, &id, &retrieved_text),
                timestamp: None,
            };
            let is_too_large = output.format == OutputFormat::Sentinel && record.held_bytes() > sentinel::MOST_BYTES;
            if is_too_large && related.embedded.take().is_some() {
                record.payload = Some(write(output.format, &related).into());
            }
            records.push(record);
        }
    }
    records
}

/// The payload.
fn write(format: OutputFormat, related: &Related<'_>) -> Vec<u8> {
    match format {
        OutputFormat::Json => json(&document::Document::of(related)),
        OutputFormat::SplunkHec => json(&splunk::Envelope::of(related)),
        OutputFormat::Sentinel => json(&sentinel::Row::of(related)),
        OutputFormat::Ocsf => json(&ocsf::DetectionFinding::of(related)),
        OutputFormat::Ecs => json(&ecs::Enrichment::of(related)),
        OutputFormat::CloudEvents => json(&cloud_events::Event::of(related)),
    }
}

const fn content_type(format: OutputFormat) -> &'static str {
    match format {
        OutputFormat::CloudEvents => "application/cloudevents+json; charset=UTF-8",
        _ => "application/json",
    }
}

fn headers(output: &Output, subject: &Subject<'_>, id: &str, retrieved_text: &str) -> Vec<Header> {
    let mut headers = Vec::with_capacity(13);
    // The binding lets a structured event have them too, and the SDK for Python takes it for a binary one then.
    if output.format != OutputFormat::CloudEvents {
        headers.extend([
            Header::new("ce_specversion", "1.0"),
            Header::new("ce_id", id),
            Header::new("ce_source", CE_SOURCE),
            Header::new("ce_type", CE_TYPE),
            Header::new("ce_time", retrieved_text),
            Header::new("ce_subject", subject.alert.id.as_str()),
        ]);
    }
    headers.push(Header::new("content-type", content_type(output.format)));
    if output.splunk.headers {
        let Splunk { index, source, sourcetype, host, headers: _ } = &output.splunk;
        let named = [("index", index), ("source", source), ("sourcetype", sourcetype), ("host", host)];
        headers.extend(named.into_iter().filter_map(|(name, value)| Some(Header::new(name, value.as_ref()?))));
    }
    headers.extend(trace_context::passed_on(subject.headers).cloned());
    headers
}

/// What every format has to write.
struct Related<'a> {
    alert: &'a Alert,
    tenant: &'a str,
    outcome: &'a Outcome,
    /// As text: RFC 3339 in UTC with milliseconds.
    retrieved_text: &'a str,
    /// The record's `ce_id`.
    id: &'a str,
    granularity: Granularity,
    /// Those of this record.
    ips: &'a [IpAddr],
    /// How many the alert has, published or not.
    all_ips: usize,
    /// Which of the alert's records this is, from 0.
    part: usize,
    parts: usize,
    embedded: Option<&'a Embedded<'a>>,
    splunk: &'a Splunk,
}

/// The addresses of an alert, as they are shared out among its records.
struct Parts<'a> {
    ips: &'a [IpAddr],
    /// Most addresses of one record.
    most: usize,
    granularity: Granularity,
}

impl<'a> Parts<'a> {
    fn of(output: &Output, ips: &'a [IpAddr]) -> Self {
        let most = match (output.granularity, output.format) {
            (Granularity::PerIp, _) => 1,
            (Granularity::PerAlert, OutputFormat::Sentinel) => sentinel::MOST_ADDRESSES,
            (Granularity::PerAlert, _) => usize::MAX,
        };
        Self { ips, most, granularity: output.granularity }
    }

    fn count(&self) -> usize {
        self.ips.len().div_ceil(self.most).max(1)
    }

    /// Whether one record says all, whatever addresses there are.
    fn is_whole(&self) -> bool {
        self.granularity == Granularity::PerAlert && self.count() == 1
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a [IpAddr])> {
        let (ips, most) = (self.ips, self.most);
        (0..self.count()).map(move |part| (part, ips.chunks(most).nth(part).unwrap_or_default()))
    }
}

/// A document as JSON text.
fn json(document: &impl Serialize) -> Vec<u8> {
    let mut payload = Vec::with_capacity(512);
    // Texts, numbers, addresses and arrays of them always have a JSON form, and writing to a Vec doesn't fail.
    let written = serde_json::to_writer(&mut payload, document);
    debug_assert!(written.is_ok(), "a document was not written");
    payload
}

/// `2026-11-23T18:40:00.123Z`; what is finer than a millisecond is cut off.
fn rfc3339_millis(time: Timestamp) -> String {
    let mut text = String::with_capacity(24);
    // Writing to a string doesn't fail.
    let _ = write!(text, "{time:.3}");
    text
}
