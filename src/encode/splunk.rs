//! The envelope of Splunk's HTTP Event Collector, as three ways in take it alike: Splunk Connect for Kafka with
//! `splunk.hec.json.event.formatted`, the OpenTelemetry Collector's `splunk_hec` exporter with `export_raw`, and a POST.
//!
//! The first is the strictest: no member beside these, `time` in seconds, and nothing but scalars in `fields`.

use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Related,
    document::{Addresses, scope_of},
    embedded::Embedded,
};
use crate::domain::output::Granularity;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "splunk-hec", deny_unknown_fields))]
pub(super) struct Envelope<'a> {
    /// When the answer was obtained: seconds since 1970.
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sourcetype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<&'a str>,
    event: Event<'a>,
    fields: Fields<'a>,
}

/// What is searched by.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Event<'a> {
    alert_id: &'a str,
    /// How many addresses the alert has, also where the output wants only some of them.
    ip_count: usize,
    status: &'static str,
    tenant_id: &'a str,
    /// RFC 3339, UTC, milliseconds.
    retrieved_at: &'a str,
    /// The same for all copies of a record: topic, partition and offset of the message that was read, and the place in it.
    record: &'a str,
    /// Behind what must be found: by itself, Splunk extracts fields from the first 5,000 characters only (`extraction_cutoff`
    /// of `limits.conf`).
    #[serde(flatten)]
    addresses: Addresses<'a>,
    /// How far each of `ips` reaches: public, private, loopback, …
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_scopes: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    alert: Option<&'a RawValue>,
}

/// Indexed fields.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fields<'a> {
    alert_id: &'a str,
    status: &'static str,
    tenant_id: &'a str,
}

impl<'a> Envelope<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        let (alert_id, status, tenant_id) =
            (related.alert.id.as_str(), related.outcome.status.as_str(), related.tenant);
        let scopes = || related.ips.iter().copied().map(scope_of).collect();
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of this millennium have less digits than a float")]
        let time = related.outcome.retrieved_at.as_millisecond() as f64 / 1000.0;
        Self {
            time,
            host: related.splunk.host.as_deref(),
            source: related.splunk.source.as_deref(),
            sourcetype: related.splunk.sourcetype.as_deref(),
            index: related.splunk.index.as_deref(),
            event: Event {
                alert_id,
                ip_count: related.all_ips,
                status,
                tenant_id,
                retrieved_at: related.retrieved_text,
                record: related.id,
                addresses: Addresses::of(related),
                ip_scopes: (related.granularity == Granularity::PerAlert).then(scopes),
                alert: related.embedded.and_then(Embedded::json),
            },
            fields: Fields { alert_id, status, tenant_id },
        }
    }
}
