//! What each format writes.

use std::sync::Arc;

use proptest::prelude::*;
use rstest::rstest;
use schemars::generate::SchemaSettings;

use super::*;
use crate::domain::{
    alert::{AlertId, Severity},
    outcome::Status,
    output::{Granularity, Output, OutputFormat, Splunk},
    record::{Epoch, Partition},
    related_ips::RelatedIps,
    scope::Scope,
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

fn all_encoded(
    outputs: &[Output],
    receipt: &Receipt,
    alert: &Alert,
    outcome: &Outcome,
    input: &[Header],
) -> Vec<Outgoing> {
    let subject =
        Subject { receipt, index: 2, alert, tenant: "account-tenant", outcome, headers: input, original: None };
    encode(outputs, &subject)
}

fn encoded(receipt: &Receipt, alert: &Alert, outcome: &Outcome, input: &[Header]) -> Outgoing {
    let [only] = all_encoded(&[Output::default()], receipt, alert, outcome, input).try_into().unwrap();
    only
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
    assert_eq!((outgoing.to, outgoing.timestamp), (Destination::Output(0), None));
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
    let [one, two] = [7, 8].map(|offset| encoded(&receipt(offset), &alert(None), &outcome(Status::Empty, &[]), &[]));
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

fn output(format: OutputFormat) -> Output {
    Output { format, ..Output::default() }
}

#[test]
fn each_output_gets_what_it_is_asked_for() {
    let outputs = [
        Output { scopes: vec![Scope::Public], ..Output::default() },
        Output { statuses: vec![Status::NotFound], ..output(OutputFormat::Ecs) },
        Output { granularity: Granularity::PerIp, ..output(OutputFormat::CloudEvents) },
    ];
    let outcome = outcome(Status::Found, &["10.0.0.1", "104.80.104.128"]);
    let records = all_encoded(&outputs, &receipt(7), &alert(None), &outcome, &[]);
    let event = |record: &Outgoing| serde_json::from_str::<serde_json::Value>(payload(record)).unwrap();
    let id = |record: &Outgoing| match record.headers.iter().find(|header| &*header.name == "ce_id") {
        Some(header) => String::from_utf8(header.value.clone().unwrap().into()).unwrap(),
        None => event(record)["id"].as_str().unwrap().to_owned(),
    };
    let told: Vec<_> = records.iter().map(|record| (record.to, id(record))).collect();
    let place = str::to_owned;
    assert_eq!(
        told,
        [
            (Destination::Output(0), place("defender.alerts/3/7/2")),
            (Destination::Output(2), place("defender.alerts/3/7/2/0")),
            (Destination::Output(2), place("defender.alerts/3/7/2/1")),
        ]
    );
    assert!(payload(&records[0]).contains(r#""ips":["104.80.104.128"]"#));
    let event = event(&records[2]);
    assert_eq!((&event["id"], &event["data"]["ip"]), (&"defender.alerts/3/7/2/1".into(), &"104.80.104.128".into()));
    // Structured mode: that it is one is all that a header says, else a reader could take it for binary mode.
    let structured = Header::new("content-type", "application/cloudevents+json; charset=UTF-8");
    assert_eq!(records[2].headers, [structured]);
}

/// The count says that there are more than the record lists.
#[rstest]
#[case(OutputFormat::SplunkHec, "/event/ip_count")]
#[case(OutputFormat::Sentinel, "/IpCount")]
#[case(OutputFormat::Ecs, "/alert_ips/count")]
fn addresses_that_are_not_published_are_counted(
    #[case] format: OutputFormat,
    #[case] at: &str,
    #[values(Granularity::PerAlert, Granularity::PerIp)] granularity: Granularity,
) {
    let outputs = [Output { scopes: vec![Scope::Public], granularity, ..output(format) }];
    let outcome = outcome(Status::Found, &["10.0.0.1", "104.80.104.128", "::1"]);
    let records = all_encoded(&outputs, &receipt(7), &alert(None), &outcome, &[]);
    let [record] = records.as_slice() else { panic!("{} records", records.len()) };
    let value: serde_json::Value = serde_json::from_str(payload(record)).unwrap();
    assert_eq!(value.pointer(at), Some(&3.into()));
    assert!(!payload(record).contains("10.0.0.1"));
}

#[rstest]
#[case::one(Status::Found, &["::1"], "1 IP address is related to the alert")]
#[case::many(Status::Found, &["::1", "1.1.1.1"], "2 IP addresses are related to the alert")]
#[case::empty(Status::Empty, &[], "no IP address is related to the alert")]
#[case::not_found(Status::NotFound, &[], "related IP addresses are not known: the service does not know the alert")]
#[case::expired(Status::Expired, &[], "related IP addresses are not known: the alert was too old to be asked about")]
fn a_message_says_what_is_known(#[case] status: Status, #[case] ips: &[&str], #[case] message: &str) {
    let outputs = [output(OutputFormat::Ocsf)];
    let records = all_encoded(&outputs, &receipt(7), &alert(None), &outcome(status, ips), &[]);
    let event: serde_json::Value = serde_json::from_str(payload(&records[0])).unwrap();
    assert_eq!(event["message"], message);
}

#[test]
fn an_alert_without_addresses_is_one_record_of_each_kind() {
    let per_ip = Output { granularity: Granularity::PerIp, ..Output::default() };
    let records = all_encoded(&[per_ip], &receipt(7), &alert(None), &outcome(Status::NotFound, &[]), &[]);
    assert_eq!(records.len(), 1);
    assert!(payload(&records[0]).contains(r#""ip":null,"ip_version":null,"ip_scope":null,"status":"not_found""#));
}

/// A row of the longest addresses, ids and headers, with such an alert in it.
fn longest_row(original: Option<&RawValue>) -> Outgoing {
    let ips: Vec<_> = (0..350).map(|n| format!("3fff:fff:1111:2222:3333:4444:5555:{:04x}", n + 0x1000)).collect();
    let state = "s".repeat(512);
    let parent = format!("01{}-{}", &TRACEPARENT[2..], "p".repeat(511));
    let subject = Subject {
        receipt: &Receipt {
            partition: Partition { topic: "t".repeat(249).into(), number: i32::MAX },
            offset: i64::MAX,
            epoch: Epoch(1),
        },
        index: usize::MAX,
        alert: &Alert { id: AlertId::parse(&"a".repeat(128)).unwrap(), ..alert(Some(&"t".repeat(253))) },
        tenant: "",
        outcome: &outcome(Status::Found, &ips.iter().map(String::as_str).collect::<Vec<_>>()),
        headers: &[Header::new("traceparent", parent), Header::new("tracestate", state)],
        original,
    };
    let output = Output { include_alert: true, ..output(OutputFormat::Sentinel) };
    let [row] = encode(&[output], &subject).try_into().unwrap();
    row
}

#[test]
fn a_row_has_the_alert_where_event_hubs_takes_both() {
    let bare = longest_row(None).held_bytes();
    let room = 64_000 - bare - r#","Alert":"#.len();
    for bytes in (room - 3..room + 4).chain([2, 20_000, 48 << 10, 49 << 10, 1 << 20]) {
        let original = serde_json::value::to_raw_value(&"x".repeat(bytes - 2)).unwrap();
        let row = longest_row(Some(&original));
        let has_alert = payload(&row).contains(r#""Alert":"#);
        assert_eq!(has_alert, bytes <= room, "{bytes} of {room}");
        assert_eq!(row.held_bytes(), if has_alert { bare + r#","Alert":"#.len() + bytes } else { bare });
    }
}

#[rstest]
fn a_record_with_an_alert_is_one_line_that_every_parser_takes(
    #[values(Granularity::PerAlert, Granularity::PerIp)] granularity: Granularity,
    #[values(
        "{\n  \"a\": [ 1.10, 18446744073709551617 ]\r\n}",
        r#"{"a" : "\ud83d"}"#,
        r#"{"a":1e400}"#,
        r#"{"a":1,"a":2}"#
    )]
    original: &str,
) {
    let original = RawValue::from_string(original.to_owned()).unwrap();
    let (alert, outcome, receipt) = (alert(None), outcome(Status::Found, &["::1", "10.0.0.1"]), receipt(7));
    let subject = Subject {
        receipt: &receipt,
        index: 0,
        alert: &alert,
        tenant: "t",
        outcome: &outcome,
        headers: &[],
        original: Some(&original),
    };
    for format in OutputFormat::ALL {
        for record in encode(&[Output { include_alert: true, granularity, ..output(format) }], &subject) {
            let text = payload(&record);
            assert!(!text.contains(['\n', '\r']), "{text}");
            serde_json::from_str::<serde_json::Value>(text).unwrap();
            // Of a member twice, parsers take the first or the last.
            assert!(!text.contains(r#""a":1,"#), "{text}");
        }
    }
}

/// Event Hubs takes no more than 64 KB, and a longer field would be cut.
#[test]
fn an_alert_with_very_many_addresses_has_several_rows_that_event_hubs_takes() {
    let ips: Vec<_> = (0..3_000).map(|n| format!("2a01:1111:2222:3333:4444:5555:6666:{:04x}", n + 0x1000)).collect();
    let ips: Vec<_> = ips.iter().map(String::as_str).collect();
    let alert = alert(Some(&"t".repeat(253)));
    let records =
        all_encoded(&[output(OutputFormat::Sentinel)], &receipt(i64::MAX), &alert, &outcome(Status::Found, &ips), &[]);
    assert_eq!(records.len(), 9);
    let mut all = Vec::new();
    for (part, record) in (1..).zip(&records) {
        assert!(record.held_bytes() < 64_000, "{}", record.held_bytes());
        let row: serde_json::Value = serde_json::from_str(payload(record)).unwrap();
        assert_eq!((&row["Part"], &row["Parts"], &row["IpCount"]), (&part.into(), &9.into(), &3_000.into()));
        all.extend(row["IpAddresses"].as_array().unwrap().iter().map(|ip| ip.as_str().unwrap().to_owned()));
    }
    assert_eq!(all, ips);
}

#[test]
fn splunks_metadata_stands_in_headers_where_that_is_asked_for() {
    let splunk =
        Splunk { index: Some("security".into()), sourcetype: Some("x:y".into()), headers: true, ..Splunk::default() };
    let outputs = [Output { splunk, ..Output::default() }];
    let records = all_encoded(&outputs, &receipt(7), &alert(None), &outcome(Status::Empty, &[]), &[]);
    let named = |name: &str| records[0].headers.iter().find(|header| &*header.name == name).cloned();
    assert_eq!(named("index"), Some(Header::new("index", "security")));
    assert_eq!(named("sourcetype"), Some(Header::new("sourcetype", "x:y")));
    assert_eq!((named("source"), named("host")), (None, None));
}

/// Of what is written, not of what could be read.
fn schema_of<T: schemars::JsonSchema>() -> schemars::Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// Columns of a custom table of Azure Monitor.
#[test]
fn every_column_has_a_name_that_sentinel_takes() {
    let schema = serde_json::to_value(schema_of::<sentinel::Row<'_>>()).unwrap();
    for column in schema["properties"].as_object().unwrap().keys() {
        let legal = column.starts_with(|c: char| c.is_ascii_alphabetic())
            && column.len() <= 45
            && column.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let reserved = ["_ResourceId", "id", "_SubscriptionId", "TenantId", "Type", "UniqueId", "Title"];
        assert!(legal && !reserved.contains(&column.as_str()), "{column}");
    }
}

/// `SCHEMAS=write cargo test` writes them.
#[rstest]
#[case(OutputFormat::Json, schema_of::<document::Document<'_>>())]
#[case(OutputFormat::SplunkHec, schema_of::<splunk::Envelope<'_>>())]
#[case(OutputFormat::Sentinel, schema_of::<sentinel::Row<'_>>())]
#[case(OutputFormat::Ocsf, schema_of::<ocsf::DetectionFinding<'_>>())]
#[case(OutputFormat::Ecs, schema_of::<ecs::Enrichment<'_>>())]
#[case(OutputFormat::CloudEvents, schema_of::<cloud_events::Event<'_>>())]
fn the_committed_schema_is_that_of_the_format(#[case] format: OutputFormat, #[case] schema: schemars::Schema) {
    let path = format!("{}/config/schemas/{}.json", env!("CARGO_MANIFEST_DIR"), format.as_str());
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    if std::env::var("SCHEMAS").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{path} is out of date");
}
