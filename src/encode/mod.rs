//! From what became of an alert to the record that says so.
//!
//! A format is one file that writes the payload and one line in [`OutputFormat`]. The headers are the same for all:
//! CloudEvents 1.0 in binary mode (CloudEvents Kafka protocol binding 1.0, section 3.2), so a reader can tell
//! records apart and drop duplicates without opening a payload; and the trace context of the input.

mod json;
mod trace_context;

use std::fmt::Write;

use jiff::Timestamp;

use crate::domain::{
    alert::Alert,
    outcome::Outcome,
    record::{Destination, Header, Outgoing, Receipt},
};

/// `ce_source`: a URI reference, as `CloudEvents` asks. With `ce_id` it is unique within a Kafka cluster.
pub const CE_SOURCE: &str = "/alert-ips";

/// `ce_type`: what the event is about. Its version is that of the meaning, not of one format.
pub const CE_TYPE: &str = "alert-ips.related-ips.v1";

/// How output records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// One JSON object: `alert_id`, `ips`, `status`, `tenant_id`, `retrieved_at`.
    #[default]
    Json,
}

impl OutputFormat {
    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
        }
    }
}

/// The output record for one alert of the message that `receipt` names, keyed by alert id.
///
/// `index` is the alert's place in that message; `tenant` the account's, used where the alert names none; `input` the
/// message's headers. The same arguments give the same bytes, and the same place always the same `ce_id`.
pub fn encode(
    format: OutputFormat,
    receipt: &Receipt,
    index: usize,
    alert: &Alert,
    tenant: &str,
    outcome: &Outcome,
    input: &[Header],
) -> Outgoing {
    let retrieved_at = rfc3339_millis(outcome.retrieved_at);
    let related =
        Related { alert, tenant: alert.tenant.as_deref().unwrap_or(tenant), outcome, retrieved_at: &retrieved_at };
    let payload = match format {
        OutputFormat::Json => json::write(&related),
    };
    let (topic, partition, offset) = (&receipt.partition.topic, receipt.partition.number, receipt.offset);
    let id = format!("{topic}/{partition}/{offset}/{index}");
    let mut headers = Vec::with_capacity(9);
    headers.extend([
        Header::new("ce_specversion", "1.0"),
        Header::new("ce_id", id),
        Header::new("ce_source", CE_SOURCE),
        Header::new("ce_type", CE_TYPE),
        Header::new("ce_time", &retrieved_at),
        Header::new("ce_subject", alert.id.as_str()),
        Header::new("content-type", format.content_type()),
    ]);
    headers.extend(trace_context::passed_on(input).cloned());
    Outgoing {
        to: Destination::Output,
        key: Some(alert.id.as_str().as_bytes().into()),
        payload: Some(payload.into()),
        headers,
        timestamp: None,
    }
}

/// What every format has to write.
struct Related<'a> {
    alert: &'a Alert,
    tenant: &'a str,
    outcome: &'a Outcome,
    /// As text: RFC 3339 in UTC with milliseconds.
    retrieved_at: &'a str,
}

/// `2026-11-23T18:40:00.123Z`; what is finer than a millisecond is cut off.
fn rfc3339_millis(time: Timestamp) -> String {
    let mut text = String::with_capacity(24);
    // Writing to a string doesn't fail.
    let _ = write!(text, "{time:.3}");
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::domain::{
        alert::{AlertId, Severity},
        outcome::Status,
        record::{Epoch, Partition},
        related_ips::RelatedIps,
    };

    const TRACEPARENT: &str = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";

    fn receipt(offset: i64) -> Receipt {
        Receipt { partition: Partition { topic: "defender.alerts".into(), number: 3 }, offset, epoch: Epoch(1) }
    }

    fn alert(tenant: Option<&str>) -> Alert {
        Alert {
            id: AlertId::parse("da637551227677560813_-961444813").unwrap(),
            tenant: tenant.map(Arc::from),
            severity: Severity::High,
            updated: None,
            created: None,
        }
    }

    fn outcome(status: Status, ips: &[&str]) -> Outcome {
        Outcome {
            status,
            ips: RelatedIps::from_texts(ips.iter().copied()),
            retrieved_at: "2026-11-23T18:40:00.1239999Z".parse().unwrap(),
        }
    }

    fn encoded(receipt: &Receipt, alert: &Alert, outcome: &Outcome, input: &[Header]) -> Outgoing {
        encode(OutputFormat::Json, receipt, 2, alert, "account-tenant", outcome, input)
    }

    fn payload(outgoing: &Outgoing) -> &str {
        std::str::from_utf8(outgoing.payload.as_deref().unwrap()).unwrap()
    }

    #[rstest]
    #[case::found(
        Status::Found,
        &["104.80.104.128", "23.203.232.228\t", "::FFFF:1.2.3.4", "2001:DB8::1"],
        r#"{"alert_id":"da637551227677560813_-961444813","ips":["104.80.104.128","23.203.232.228","::ffff:1.2.3.4","2001:db8::1"],"status":"found","tenant_id":"account-tenant","retrieved_at":"2026-11-23T18:40:00.123Z"}"#
    )]
    #[case::empty(
        Status::Empty,
        &[],
        r#"{"alert_id":"da637551227677560813_-961444813","ips":[],"status":"empty","tenant_id":"account-tenant","retrieved_at":"2026-11-23T18:40:00.123Z"}"#
    )]
    #[case::not_found(
        Status::NotFound,
        &[],
        r#"{"alert_id":"da637551227677560813_-961444813","ips":[],"status":"not_found","tenant_id":"account-tenant","retrieved_at":"2026-11-23T18:40:00.123Z"}"#
    )]
    #[case::expired(
        Status::Expired,
        &[],
        r#"{"alert_id":"da637551227677560813_-961444813","ips":[],"status":"expired","tenant_id":"account-tenant","retrieved_at":"2026-11-23T18:40:00.123Z"}"#
    )]
    fn json_is_exactly_the_documented_record(#[case] status: Status, #[case] ips: &[&str], #[case] golden: &str) {
        let outgoing = encoded(&receipt(7), &alert(None), &outcome(status, ips), &[]);
        assert_eq!(payload(&outgoing), golden);
        assert_eq!(outgoing.key.as_deref(), Some(b"da637551227677560813_-961444813".as_slice()));
        assert_eq!((outgoing.to, outgoing.timestamp), (Destination::Output, None));
    }

    #[test]
    fn the_alerts_own_tenant_wins_over_the_accounts() {
        let outgoing = encoded(&receipt(7), &alert(Some("contoso")), &outcome(Status::Empty, &[]), &[]);
        assert!(payload(&outgoing).contains(r#""tenant_id":"contoso""#));
    }

    #[test]
    fn headers_are_cloud_events_in_binary_mode_with_the_inputs_trace_context() {
        let input = [
            Header::new("x", "y"),
            Header::new("traceparent", TRACEPARENT),
            Header::new("tracestate", "vendor=1"),
            Header::new("ce_id", "of the input"),
        ];
        let outgoing = encoded(&receipt(7), &alert(None), &outcome(Status::Empty, &[]), &input);
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", "defender.alerts/3/7/2"),
            ("ce_source", "/alert-ips"),
            ("ce_type", "alert-ips.related-ips.v1"),
            ("ce_time", "2026-11-23T18:40:00.123Z"),
            ("ce_subject", "da637551227677560813_-961444813"),
            ("content-type", "application/json"),
            ("traceparent", TRACEPARENT),
            ("tracestate", "vendor=1"),
        ];
        assert_eq!(outgoing.headers, expected.map(|(name, value)| Header::new(name, value)));
    }

    #[test]
    fn one_alert_in_two_records_gives_two_outputs_told_apart_by_their_id() {
        let [one, two] =
            [7, 8].map(|offset| encoded(&receipt(offset), &alert(None), &outcome(Status::Empty, &[]), &[]));
        assert_eq!((&one.key, &one.payload), (&two.key, &two.payload));
        assert_ne!(one.headers[1], two.headers[1]);
    }

    #[test]
    fn a_whole_second_is_written_with_its_milliseconds() {
        assert_eq!(rfc3339_millis("2026-11-23T18:40:00Z".parse().unwrap()), "2026-11-23T18:40:00.000Z");
    }

    proptest! {
        #[test]
        fn any_headers_and_any_tenant_give_a_record_that_reads_back(
            tenant in any::<String>(),
            input in prop::collection::vec(("traceparent|tracestate|[a-z]{0,8}", any::<Option<Vec<u8>>>()), 0..4),
        ) {
            let input: Vec<_> = input
                .into_iter()
                .map(|(name, value)| Header { name: name.into(), value: value.map(Into::into) })
                .collect();
            let alert = Alert { tenant: Some(tenant.as_str().into()), ..alert(None) };
            let outgoing = encoded(&receipt(7), &alert, &outcome(Status::Found, &["::1"]), &input);
            let json: serde_json::Value = serde_json::from_str(payload(&outgoing)).unwrap();
            prop_assert_eq!(&json["tenant_id"], &serde_json::Value::from(tenant));
            for header in &outgoing.headers {
                let value = header.value.as_deref().unwrap();
                prop_assert!(value.iter().all(|byte| (0x20..0x7f).contains(byte)), "{:?}", header);
            }
        }
    }
}
