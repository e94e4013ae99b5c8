//! What holds of the records of an alert, in every output format.

use serde_json::{Value, value::RawValue};

use crate::{
    decode::Indexed,
    domain::{
        outcome::{Outcome, Status},
        output::{Granularity, Output, OutputFormat, Splunk},
        record::{Destination, Outgoing},
        related_ips::RelatedIps,
    },
    encode::{Subject, encode},
    property::{NOW, choice, hostile_headers, receipt},
};

const IPS: [&str; 2] = ["104.80.104.128", "2a01:111::1"];

/// Of so many alerts of a message each is written in every format, of the others in one.
const IN_EVERY_FORMAT: usize = 16;

/// What a record has at most beside the alert that it embeds, in bytes.
const MOST_BESIDE_ALERT: usize = 8 << 10;

pub(crate) struct Encoding {
    /// Each has one of every format.
    outputs: Vec<Vec<Output>>,
    outcomes: Vec<Outcome>,
}

impl Encoding {
    pub(crate) fn new() -> Self {
        let output = |granularity, include_alert| {
            let one = |format| Output { format, granularity, include_alert, splunk: splunk(), ..Output::default() };
            OutputFormat::ALL.map(one).into()
        };
        let of = |status| {
            let ips = if status == Status::Found { &IPS[..] } else { &[] };
            Outcome { status, ips: RelatedIps::from_texts(ips.iter().copied()), retrieved_at: NOW }
        };
        Self {
            outputs: vec![
                output(Granularity::PerAlert, false),
                output(Granularity::PerAlert, true),
                output(Granularity::PerIp, false),
                output(Granularity::PerIp, true),
            ],
            outcomes: Status::ALL.map(of).into(),
        }
    }

    pub(crate) fn check(&self, payload: &[u8], alerts: &[Indexed]) {
        let choice = choice(payload);
        for (number, indexed) in alerts.iter().enumerate() {
            let choice = choice.wrapping_add(number);
            let outputs = &self.outputs[choice % self.outputs.len()];
            let outputs = match number {
                ..IN_EVERY_FORMAT => &outputs[..],
                _ => std::slice::from_ref(&outputs[number % outputs.len()]),
            };
            // Most outcomes have addresses.
            let outcome = self.outcomes.get(choice / self.outputs.len() % 8).unwrap_or(&self.outcomes[0]);
            check_alert(payload, indexed, outputs, outcome);
        }
    }
}

fn splunk() -> Splunk {
    Splunk { index: Some("security".into()), host: Some("host-1".into()), headers: true, ..Splunk::default() }
}

fn check_alert(payload: &[u8], indexed: &Indexed, outputs: &[Output], outcome: &Outcome) {
    let Indexed { index, alert, original } = indexed;
    let original = original.as_ref().and_then(|original| original.text(payload));
    let headers = hostile_headers(payload);
    let subject = Subject {
        receipt: &receipt(),
        index: *index,
        alert,
        tenant: "of-the-account",
        outcome,
        headers: &headers,
        original,
    };
    let records = encode(outputs, &subject);
    for (number, output) in (0..).zip(outputs) {
        let mine: Vec<_> = records.iter().filter(|record| record.to == Destination::Output(number)).collect();
        let expected = match output.granularity {
            Granularity::PerAlert => 1,
            Granularity::PerIp => outcome.ips.as_slice().len().max(1),
        };
        assert_eq!(mine.len(), expected, "records of {output:?}");
        for record in mine {
            check_record(record, output, alert.id.as_str(), original.filter(|_| output.include_alert));
        }
    }
    assert!(
        records.iter().all(|record| matches!(record.to, Destination::Output(to) if usize::from(to) < outputs.len()))
    );
}

fn check_record(record: &Outgoing, output: &Output, id: &str, original: Option<&RawValue>) {
    assert_eq!(record.key.as_deref(), Some(id.as_bytes()));
    let payload = record.payload.as_deref().expect("a payload");
    // An alert that stands in a text may become twice as long, for its quotes are escaped.
    let most = MOST_BESIDE_ALERT + 2 * original.map_or(0, |original| original.get().len());
    assert!(payload.len() <= most, "{output:?} wrote {} bytes", payload.len());
    if original.is_some() {
        // What is embedded may be JSON that not every parser takes, such as a number beyond a float.
        serde_json::from_slice::<&RawValue>(payload)
            .unwrap_or_else(|error| panic!("{output:?} wrote no JSON: {error}"));
    } else {
        let value: Value =
            serde_json::from_slice(payload).unwrap_or_else(|error| panic!("{output:?} wrote no JSON: {error}"));
        let at = match output.format {
            OutputFormat::Json => "/alert_id",
            OutputFormat::SplunkHec => "/event/alert_id",
            OutputFormat::Sentinel => "/AlertId",
            OutputFormat::Ocsf => "/finding_info/uid",
            OutputFormat::Ecs => "/event/id",
            OutputFormat::CloudEvents => "/data/alert_id",
        };
        assert_eq!(value.pointer(at).and_then(Value::as_str), Some(id), "{output:?}");
    }
    for header in &record.headers {
        let value = header.value.as_deref().unwrap_or_default();
        assert!(value.iter().all(|byte| (0x20..0x7f).contains(byte)), "{header:?}");
    }
}
