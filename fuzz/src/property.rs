//! What holds of the decoder of a format, whatever bytes come. Each check is a promise that the documentation of the
//! checked type or function makes.

use std::{collections::HashSet, io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;
use serde::de::IgnoredAny;

use crate::{
    decode::{Decoded, Decoder, Indexed, MAX_ITEMS},
    domain::{
        alert::{Alert, Severity},
        dead_letter::DeadLetter,
        filter::Filter,
        format::{InputFormat, Mapping},
        outcome::Rejection,
        pointer::Pointer,
        record::{Epoch, Header, Outgoing, Partition, Receipt, Record},
    },
    encoding::Encoding,
};

pub(crate) const NOW: Timestamp = Timestamp::constant(1_795_000_000, 123_000_000);

/// Longest detail of a rejection, in bytes, with room to spare: of three items five names each are told, of which each has
/// at most 32 characters, and an escaped one at most 10 bytes.
const MAX_DETAIL_LEN: usize = 8 << 10;

/// One format, checked with each of its decoders.
pub struct Property {
    decoders: Vec<Decoders>,
    encoding: Encoding,
    /// Whether a line may be something else than JSON.
    reads_bare_ids: bool,
}

/// The same decoder three times.
struct Decoders {
    plain: Decoder,
    keeping_originals: Decoder,
    filtering: Decoder,
}

impl Property {
    pub fn of(format: InputFormat) -> Self {
        let decoders = match format {
            InputFormat::Custom => vec![
                Decoders::new(format, Some(mapping(Some("/batch/items")))),
                Decoders::new(InputFormat::Auto, Some(mapping(None))),
            ],
            _ => vec![Decoders::new(format, None)],
        };
        let reads_bare_ids = matches!(format, InputFormat::Auto | InputFormat::BareId | InputFormat::Custom);
        Self { decoders, encoding: Encoding::new(), reads_bare_ids }
    }

    /// Panics if something doesn't hold.
    pub fn check(&self, payload: &[u8]) {
        for Decoders { plain, keeping_originals, filtering } in &self.decoders {
            let decoded = plain.decode(Some(payload), NOW);
            assert_sound(&decoded);
            let holds_something = !decoded.alerts.is_empty() || !decoded.skips.is_empty();
            if holds_something && !self.reads_bare_ids && payload.starts_with(b"{") {
                let mut values = serde_json::Deserializer::from_slice(payload).into_iter::<IgnoredAny>();
                assert!(values.all(|value| value.is_ok()), "what is not JSON from end to end is rejected whole");
            }
            assert_eq!(decoded, plain.decode(Some(payload), NOW), "the same bytes give the same");

            let kept = keeping_originals.decode(Some(payload), NOW);
            assert_same_but_for_originals(&decoded, &kept);
            for indexed in &kept.alerts {
                let original = indexed.original.as_ref().and_then(|original| original.text(payload));
                let original = original.expect("each alert has its original, which is JSON").get();
                let again = keeping_originals.decode(Some(original.as_bytes()), NOW).alerts;
                let ids: Vec<_> = again.iter().map(|indexed| &indexed.alert.id).collect();
                assert_eq!(ids, [&indexed.alert.id], "the original is read as the alert that it was");
            }

            if payload.starts_with(b"{") || payload.starts_with(b"[") {
                assert_same_when_packed(keeping_originals, payload, &kept);
            }
            assert_filtered(&decoded, &filtering.decode(Some(payload), NOW));
            if let Some(rejection) = &decoded.rejection {
                assert_dead_letter(payload, rejection);
            }
            self.encoding.check(payload, &kept.alerts);
        }
    }
}

impl Decoders {
    fn new(format: InputFormat, mapping: Option<Mapping>) -> Self {
        let decoder = |filter| Decoder::new(format, mapping.clone(), filter);
        Self {
            plain: decoder(Filter::default()),
            keeping_originals: decoder(Filter::default()).keeping_originals(true),
            filtering: decoder(Filter {
                severities: vec![Severity::High, Severity::Medium, Severity::Unspecified],
                detection_sources: vec![
                    "EDR".into(),
                    "WindowsDefenderAtp".into(),
                    "microsoftDefenderForEndpoint".into(),
                ],
                max_age: Some(Duration::from_hours(24 * 365 * 5)),
                tenants: vec!["aaaaaaaa-0000-0000-0000-00000000000b".into()],
            }),
        }
    }
}

fn mapping(records: Option<&str>) -> Mapping {
    let pointer = |text: &str| Some(Pointer::parse(text).expect("a pointer"));
    Mapping {
        id: Pointer::parse("/detection/alert~1id").expect("a pointer"),
        severity: pointer("/detection/level"),
        tenant: pointer("/owner/0"),
        updated: pointer("/seen"),
        created: pointer("/detection/begun"),
        records: records.and_then(pointer),
    }
}

pub(crate) fn assert_sound(decoded: &Decoded) {
    let Decoded { alerts, skips, unwanted, rejection } = decoded;
    assert!(!alerts.is_empty() || !skips.is_empty() || rejection.is_some(), "never nothing");
    assert!(alerts.len() + skips.len() <= MAX_ITEMS && unwanted.len() <= skips.len());
    assert!(alerts.is_sorted_by(|a, b| a.index < b.index), "in the order of their first items");
    assert!(alerts.last().is_none_or(|last| last.index < MAX_ITEMS));
    let mut distinct = HashSet::new();
    for Indexed { alert, original, .. } in alerts {
        assert!(distinct.insert((&alert.id, &alert.tenant)), "one for each distinct alert: {alert:?}");
        assert_eq!(*original, None, "originals are kept only where they are asked for");
        assert_plausible(alert);
    }
    if let Some(Rejection { detail, .. }) = rejection {
        assert!(detail.len() <= MAX_DETAIL_LEN, "a detail of {} bytes", detail.len());
        assert!(!detail.chars().any(char::is_control), "{detail:?}");
    }
}

fn assert_plausible(Alert { id, tenant, updated, created, severity: _ }: &Alert) {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    assert!((1..=128).contains(&id.as_str().len()) && id.as_str().bytes().all(is_legal), "{id}");
    if let Some(tenant) = tenant {
        let is_legal = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
        assert!((1..=253).contains(&tenant.len()) && tenant.bytes().all(is_legal), "{tenant:?}");
    }
    let plausible = Timestamp::constant(946_684_800, 0)..Timestamp::constant(4_102_444_800, 0);
    for time in [updated, created, &id.created()].into_iter().flatten() {
        assert!(plausible.contains(time), "{time}");
    }
}

fn assert_same_but_for_originals(plain: &Decoded, kept: &Decoded) {
    let alerts = |decoded: &Decoded| -> Vec<_> {
        decoded.alerts.iter().map(|indexed| (indexed.index, indexed.alert.clone())).collect()
    };
    assert_eq!(alerts(plain), alerts(kept), "the same alerts with their originals");
    assert_eq!(plain.skips, kept.skips);
    // Where two things are wrong with a text, it depends on how it is read which of them is met first.
    assert_eq!(plain.rejection.is_some(), kept.rejection.is_some());
}

/// Whatever is around the JSON, it is read the same.
fn assert_same_when_packed(decoder: &Decoder, json: &[u8], expected: &Decoded) {
    let told = |decoded: Decoded, payload: &[u8]| {
        let alert = |Indexed { index, alert, original }: Indexed| {
            let original = original.and_then(|original| original.text(payload).map(|text| text.get().to_owned()));
            (index, alert, original)
        };
        (decoded.alerts.into_iter().map(alert).collect::<Vec<_>>(), decoded.skips, decoded.rejection)
    };
    let expected = told(expected.clone(), json);
    let choice = choice(json) % 16;
    if choice < 4 {
        let framed = [b"\0\0\0\0\x2a", json].concat();
        assert_eq!(told(decoder.decode(Some(&framed), NOW), &framed), expected, "behind a schema registry's frame");
    }
    // Packing takes longer than all else.
    if choice == 0 {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(json).expect("writing to memory doesn't fail");
        let gzip = gzip.finish().expect("writing to memory doesn't fail");
        let mut packed = told(decoder.decode(Some(&gzip), NOW), &gzip);
        // There is no room for all originals that are not in the payload.
        for (alert, whole) in packed.0.iter_mut().zip(&expected.0) {
            alert.2 = alert.2.take().or_else(|| whole.2.clone());
        }
        assert_eq!(packed, expected, "in gzip");
    }
}

/// A filter makes skips of alerts, and changes nothing else.
fn assert_filtered(all: &Decoded, wanted: &Decoded) {
    let mut rest = all.alerts.iter();
    for indexed in &wanted.alerts {
        assert!(rest.any(|one| one == indexed), "{indexed:?} is there only with a filter");
        assert!(!matches!(indexed.alert.severity, Severity::Low | Severity::Informational));
    }
    assert_eq!(all.alerts.len() + all.skips.len(), wanted.alerts.len() + wanted.skips.len());
    assert!(wanted.skips.starts_with(&all.skips));
    assert_eq!(all.rejection, wanted.rejection);
}

/// The dead letter can be written whatever was rejected, and gives it back.
fn assert_dead_letter(payload: &[u8], rejection: &Rejection) {
    let original = Record {
        receipt: receipt(),
        key: None,
        payload: Some(payload.into()),
        headers: Vec::new(),
        timestamp: Some(NOW),
    };
    let letter = DeadLetter::new(original, rejection, NOW);
    let detail = &letter.rejection.detail;
    assert!(detail.len() <= 1024 && detail.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{detail:?}");
    let consumed = |letter: DeadLetter| {
        let Outgoing { key, payload, headers, .. } = letter.into_outgoing();
        DeadLetter::read(Record { receipt: receipt(), key, payload, headers, timestamp: None })
    };
    let expected = DeadLetter { original: Record { receipt: unowned(), ..letter.original.clone() }, ..letter.clone() };
    assert_eq!(consumed(letter.clone()), Ok(expected), "a dead letter is read as it was written");
    let cut = consumed(letter.truncated(4 << 10)).expect("a dead letter").original.payload;
    assert!(cut.is_some_and(|cut| payload.starts_with(&cut)));
}

/// A number that depends on the bytes alone, so that what was found by it is found again.
pub(crate) fn choice(payload: &[u8]) -> usize {
    payload.iter().fold(payload.len(), |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()))
}

pub(crate) fn receipt() -> Receipt {
    let partition = Partition { topic: "defender.alerts".into(), number: 3 };
    Receipt { partition, offset: 42, epoch: Epoch(1) }
}

/// As it comes back from the topic, which keeps no epoch.
fn unowned() -> Receipt {
    Receipt { epoch: Epoch::default(), ..receipt() }
}

/// Headers as hostile as the payload.
pub(crate) fn hostile_headers(payload: &[u8]) -> Vec<Header> {
    let (parent, state) = payload.split_at(payload.len().min(55));
    vec![Header::new("traceparent", parent), Header::new("tracestate", &state[..state.len().min(512)])]
}
