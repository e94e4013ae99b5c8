//! Every format of output, for every shape of input: `tests/fixtures/encoded` holds one of each kind, and all of them are what
//! `config/schemas` says, by a validator that is not ours.

use std::{fs, path::PathBuf};

use alert_ips::{
    decode::{Decoder, Indexed},
    domain::{
        alert::AlertId,
        outcome::{Outcome, Status},
        output::{Granularity, Output, OutputFormat, Splunk},
        record::{Epoch, Outgoing, Partition, Receipt},
        related_ips::RelatedIps,
    },
    encode::{Subject, encode},
};
use jiff::Timestamp;
use rstest::rstest;
use serde_json::Value;

const NOW: Timestamp = Timestamp::constant(1_795_000_000, 123_000_000);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn outcome(status: Status) -> Outcome {
    let ips = if status == Status::Found { &["104.80.104.128", "10.0.0.1", "2a01:111::1"][..] } else { &[] };
    Outcome { status, ips: RelatedIps::from_texts(ips.iter().copied()), retrieved_at: NOW }
}

fn output(format: OutputFormat, granularity: Granularity, include_alert: bool) -> Output {
    let splunk = Splunk {
        index: Some("security".into()),
        source: Some("alert-ips".into()),
        sourcetype: Some("ms:defender:alert:ips".into()),
        ..Splunk::default()
    };
    Output { format, granularity, include_alert, splunk, ..Output::default() }
}

/// The records of every alert in a message.
fn published(message: &[u8], output: &Output, status: Status) -> Vec<Outgoing> {
    let decoder = Decoder::default().keeping_originals(true);
    let receipt =
        Receipt { partition: Partition { topic: "defender.alerts".into(), number: 3 }, offset: 42, epoch: Epoch(1) };
    let mut records = Vec::new();
    for indexed in decoder.decode(Some(message), NOW).alerts {
        records.extend(encode(
            std::slice::from_ref(output),
            &Subject {
                receipt: &receipt,
                index: indexed.index,
                alert: &indexed.alert,
                tenant: "of-the-account",
                outcome: &outcome(status),
                headers: &[],
                original: indexed.original.as_ref().and_then(|original| original.text(message)),
            },
        ));
    }
    records
}

fn value(record: &Outgoing) -> Value {
    serde_json::from_slice(record.payload.as_deref().unwrap()).unwrap()
}

#[rstest]
fn each_format_writes_what_is_kept_of_it(
    #[values("json", "splunk-hec", "sentinel", "ocsf", "ecs", "cloudevents")] name: &str,
    #[values("per-alert", "per-ip", "embedded", "without-addresses")] kind: &str,
) {
    let format = OutputFormat::ALL.into_iter().find(|format| format.as_str() == name).unwrap();
    let granularity = if kind == "per-ip" { Granularity::PerIp } else { Granularity::PerAlert };
    let status = if kind == "without-addresses" { Status::NotFound } else { Status::Found };
    let message = fs::read(root().join("tests/fixtures/input/graph.json")).unwrap();
    let records = published(&message, &output(format, granularity, kind == "embedded"), status);
    insta::with_settings!({
        snapshot_path => "../fixtures/encoded", prepend_module_to_snapshot => false, omit_expression => true,
    }, {
        insta::assert_json_snapshot!(format!("{name}-{kind}"), records.iter().map(value).collect::<Vec<_>>());
    });
}

#[rstest]
fn every_shape_in_every_format_is_what_its_schema_says(#[files("tests/fixtures/input/*")] path: PathBuf) {
    let message = fs::read(path).unwrap();
    for format in OutputFormat::ALL {
        let schema = fs::read(root().join(format!("config/schemas/{}.json", format.as_str()))).unwrap();
        let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
        for granularity in [Granularity::PerAlert, Granularity::PerIp] {
            for include_alert in [false, true] {
                for status in Status::ALL {
                    for record in published(&message, &output(format, granularity, include_alert), status) {
                        let value = value(&record);
                        let wrong: Vec<_> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
                        assert!(wrong.is_empty(), "{format:?} {wrong:?} {value:#}");
                    }
                }
            }
        }
    }
}

/// A schema that everything passes would prove nothing.
#[rstest]
#[case(OutputFormat::Json, "/status", Value::from(7))]
#[case(OutputFormat::SplunkHec, "/time", Value::from("2026-11-18T11:06:40Z"))]
#[case(OutputFormat::Sentinel, "/IpAddresses", Value::from("104.80.104.128"))]
#[case(OutputFormat::Ocsf, "/metadata", Value::Null)]
#[case(OutputFormat::Ecs, "/related/ip", Value::Null)]
#[case(OutputFormat::CloudEvents, "/data/alert_id", Value::Null)]
fn a_schema_refuses_what_is_none(#[case] format: OutputFormat, #[case] at: &str, #[case] wrong: Value) {
    let message = fs::read(root().join("tests/fixtures/input/graph.json")).unwrap();
    let schema = fs::read(root().join(format!("config/schemas/{}.json", format.as_str()))).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let mut value = value(&published(&message, &output(format, Granularity::PerAlert, false), Status::Found)[0]);
    assert!(schema.is_valid(&value));
    *value.pointer_mut(at).unwrap() = wrong;
    assert!(!schema.is_valid(&value));
}

/// What is embedded is the alert itself, and not another item of its message.
#[rstest]
fn the_original_of_each_alert_is_an_alert_with_its_id(#[files("tests/fixtures/input/*")] path: PathBuf) {
    let message = fs::read(path).unwrap();
    let decoder = Decoder::default().keeping_originals(true);
    let alerts = decoder.decode(Some(&message), NOW).alerts;
    let found = |alerts: Vec<Indexed>| {
        alerts.into_iter().map(|Indexed { index, alert, .. }| (index, alert)).collect::<Vec<_>>()
    };
    assert_eq!(found(alerts.clone()), found(Decoder::default().decode(Some(&message), NOW).alerts));
    for indexed in alerts {
        let original = indexed.original.as_ref().unwrap().text(&message).unwrap();
        let again = decoder.decode(Some(original.get().as_bytes()), NOW).alerts;
        let ids: Vec<&AlertId> = again.iter().map(|indexed| &indexed.alert.id).collect();
        assert_eq!(ids, [&indexed.alert.id], "{original}");
    }
}
