//! Every shape of message that is known, as pipelines write it: `tests/fixtures/input` holds one of each, and
//! `tests/fixtures/decoded` what is read of it. All names and ids are made up, or are those of Microsoft's own examples.

use std::{fs, io::Write as _, path::PathBuf, time::Duration};

use alert_ips::{
    decode::{Decoded, Decoder, Indexed},
    domain::{
        alert::{Alert, Severity},
        filter::Filter,
        format::{InputFormat, Mapping},
        outcome::{Reason, Skip},
        pointer::Pointer,
    },
};
use jiff::Timestamp;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

fn input(name: &str) -> Vec<u8> {
    fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/input").join(name)).unwrap()
}

fn auto(payload: impl AsRef<[u8]>) -> Decoded {
    Decoder::default().decode(Some(payload.as_ref()), NOW)
}

fn ids(decoded: &Decoded) -> Vec<&str> {
    decoded.alerts.iter().map(|indexed| indexed.alert.id.as_str()).collect()
}

fn told(decoded: &Decoded) -> Value {
    let alert = |Indexed { index, alert, .. }: &Indexed| {
        let Alert { id, tenant, severity, updated, created } = alert;
        let time = |time: &Option<Timestamp>| time.map(|time| time.to_string());
        json!({
            "index": index, "id": id.as_str(), "tenant": tenant.as_deref(), "severity": severity.as_str(),
            "updated": time(updated), "created": time(created),
        })
    };
    json!({
        "alerts": decoded.alerts.iter().map(alert).collect::<Vec<_>>(),
        "skips": decoded.skips.iter().map(|skip| skip.as_str()).collect::<Vec<_>>(),
        "rejection": decoded.rejection.as_ref().map(|rejection| &rejection.detail),
    })
}

#[rstest]
fn each_shape_gives_what_is_written_of_it(#[files("tests/fixtures/input/*")] path: PathBuf) {
    let decoded = auto(fs::read(&path).unwrap());
    assert_eq!(decoded.rejection, None);
    let name = path.file_stem().unwrap().to_str().unwrap();
    insta::with_settings!({
        snapshot_path => "../fixtures/decoded", prepend_module_to_snapshot => false, omit_expression => true,
    }, {
        insta::assert_json_snapshot!(name, told(&decoded));
    });
}

#[rstest]
#[case(InputFormat::Streaming, "streaming-envelope.json", 1)]
#[case(InputFormat::AlertResource, "list-page.json", 2)]
#[case(InputFormat::AlertResource, "filebeat-message.json", 1)]
#[case(InputFormat::Graph, "graph-page.json", 2)]
#[case(InputFormat::GraphLegacy, "graph-legacy.json", 1)]
#[case(InputFormat::SiemDetection, "siem-detections.json", 1)]
#[case(InputFormat::Ecs, "ecs-m365-alert.json", 1)]
#[case(InputFormat::BareId, "bare-ids.txt", 3)]
fn a_format_by_name_reads_its_shape_and_no_other(
    #[case] format: InputFormat,
    #[case] name: &str,
    #[case] alerts: usize,
) {
    let decoder = Decoder::new(format, None, Filter::default());
    assert_eq!(decoder.decode(Some(&input(name)), NOW).alerts.len(), alerts);
    let foreign = if format == InputFormat::Graph { "streaming-alert-info.json" } else { "graph.json" };
    if format != InputFormat::BareId && format != InputFormat::AlertResource {
        let decoded = decoder.decode(Some(&input(foreign)), NOW);
        assert_eq!(decoded.rejection.map(|rejection| rejection.reason), Some(Reason::UnknownShape));
    }
}

fn mapping(records: Option<&str>) -> Mapping {
    let pointer = |text: &str| Some(Pointer::parse(text).unwrap());
    Mapping {
        id: Pointer::parse("/detection/alert~1id").unwrap(),
        severity: pointer("/detection/level"),
        tenant: pointer("/owner/0"),
        updated: pointer("/seen"),
        created: None,
        records: records.and_then(pointer),
    }
}

#[rstest]
#[case::one(None, |alert: Value| alert)]
#[case::list(None, |alert: Value| json!([alert]))]
#[case::deep(Some("/batch/items"), |alert: Value| json!({"id": 7, "batch": {"no": 1, "items": [alert], "end": true}}))]
#[case::in_an_item(Some("/batches/1/items"), |alert: Value| json!({"batches": [{"items": [7]}, {"items": [alert]}, 7]}))]
#[case::an_item(Some("/batches/1"), |alert: Value| json!({"batches": [[], [alert], []]}))]
#[case::in_a_message(Some("/batch/items"), |alert: Value| json!({"message": json!({"batch": {"items": [alert]}}).to_string()}))]
fn a_mapping_reads_what_no_shape_knows(
    #[case] records: Option<&str>,
    #[case] around: fn(Value) -> Value,
    #[values(InputFormat::Auto, InputFormat::Custom)] format: InputFormat,
) {
    let alert = json!({
        "id": "of the pipeline", "severity": "Low", "owner": ["Contoso.Example", "x"],
        "detection": {"alert/id": "da637551227677560813_-961444813", "level": "HIGH"}, "seen": 1_795_000_000_123_u64,
    });
    let decoder = Decoder::new(format, Some(mapping(records)), Filter::default());
    let decoded = decoder.decode(Some(around(alert).to_string().as_bytes()), NOW);
    assert_eq!((ids(&decoded), &decoded.rejection), (vec!["da637551227677560813_-961444813"], &None));
    let alert = &decoded.alerts[0].alert;
    assert_eq!((alert.severity, alert.tenant.as_deref()), (Severity::High, Some("contoso.example")));
    assert_eq!(alert.updated, Some("2026-11-18T11:06:40.123Z".parse().unwrap()));
}

/// Filebeat's modules and the older packages of Elastic count from 0 to 4, the newer ones in the scale of Elastic's rules.
#[rstest]
#[case::unspecified("0", Severity::Unspecified)]
#[case::informational("1", Severity::Informational)]
#[case::low("2", Severity::Low)]
#[case::medium("3", Severity::Medium)]
#[case::high("4", Severity::High)]
#[case::less_than_low("5", Severity::Informational)]
#[case::still_less_than_low("20", Severity::Informational)]
#[case::low_in_the_large_scale("21", Severity::Low)]
#[case::medium_in_the_large_scale("47", Severity::Medium)]
#[case::high_in_the_large_scale("73", Severity::High)]
#[case::critical("99", Severity::High)]
#[case::negative("-1", Severity::Unspecified)]
#[case::text(r#""3""#, Severity::Unspecified)]
fn the_numbers_of_both_scales_of_ecs_are_severities(#[case] number: &str, #[case] severity: Severity) {
    let event = format!(
        r#"{{"event":{{"dataset":"microsoft_defender_endpoint.log","id":"da637291048912199236_1","severity":{number}}}}}"#
    );
    assert_eq!(auto(event).alerts[0].alert.severity, severity);
}

#[test]
fn the_source_of_a_detection_is_no_product_where_an_event_has_both() {
    let filter = |source: &str| Filter { detection_sources: vec![source.into()], ..Filter::default() };
    let found = |source: &str| {
        let decoded =
            Decoder::new(InputFormat::Auto, None, filter(source)).decode(Some(&input("ecs-filebeat.json")), NOW);
        decoded.alerts.into_iter().map(|indexed| indexed.index).collect::<Vec<_>>()
    };
    assert_eq!(found("WindowsDefenderAv"), [1]);
    assert_eq!(found("WindowsDefenderAtp"), [0]);
    assert_eq!(found("MicrosoftDefenderATP"), [] as [usize; 0]);
}

/// A data set is known by its whole name; where it is not known at all, what is in the event decides.
#[rstest]
#[case::an_alert("m365_defender.alert", 1, &[])]
#[case::what_alert_ips_writes("microsoft_defender_endpoint.alert_ips", 0, &[Skip::OtherTable])]
#[case::longer("m365_defender.alerts", 0, &[Skip::OtherTable])]
#[case::of_nobody("soc.alerts", 1, &[])]
#[case::the_module_alone("m365_defender", 1, &[])]
fn data_sets_of_the_same_packages_that_are_about_no_alert_are_skipped(
    #[case] dataset: &str,
    #[case] alerts: usize,
    #[case] skips: &[Skip],
    #[values("event", "data_stream")] at: &str,
) {
    let mut event =
        json!({"event": {"id": "da637291048912199236_1"}, "m365_defender": {"alert": {"severity": "high"}}});
    event[at]["dataset"] = dataset.into();
    let decoded = auto(event.to_string());
    assert_eq!((decoded.alerts.len(), &decoded.skips[..], decoded.rejection), (alerts, skips, None));
}

/// Then the id tells.
#[rstest]
#[case::not_known("unknown", "da637551227677560813_-961444813", true)]
#[case::known_to_newer_clients("unknownFutureValue", "ed637551227677560813_-961444813", true)]
#[case::without_a_prefix("unknown", "637551227677560813_-961444813", true)]
#[case::of_another("unknown", "fa637551227677560813_-961444813", false)]
#[case::told("microsoftDefenderForOffice365", "da637551227677560813_-961444813", false)]
fn a_product_that_graph_does_not_know_is_not_told(#[case] source: &str, #[case] id: &str, #[case] is_asked: bool) {
    let decoded = auto(json!({"id": id, "serviceSource": source, "severity": "high"}).to_string());
    let skips = if is_asked { vec![] } else { vec![Skip::OtherProduct] };
    assert_eq!((decoded.alerts.len(), decoded.skips, decoded.rejection), (usize::from(is_asked), skips, None));
}

/// What the message says of all its alerts, before or behind them.
#[rstest]
#[case::before(
    r#"{"owner":["contoso.example"],"seen":1795000000,"detection":{"level":"low"},"batch":{"items":[A,B]}}"#
)]
#[case::behind(
    r#"{"batch":{"items":[A,B]},"owner":["contoso.example"],"seen":1795000000,"detection":{"level":"low"}}"#
)]
fn what_an_item_of_a_mapped_list_does_not_tell_the_message_around_it_does(#[case] message: &str) {
    let one = r#"{"detection":{"alert/id":"a"}}"#;
    let other = r#"{"detection":{"alert/id":"b","level":"High"},"owner":["fabrikam.example"],"seen":"1795000001"}"#;
    let decoder = Decoder::new(InputFormat::Auto, Some(mapping(Some("/batch/items"))), Filter::default());
    let told = |message: &str| {
        let message = message.replace('A', one).replace('B', other);
        let decoded = decoder.decode(Some(message.as_bytes()), NOW);
        assert_eq!((ids(&decoded), &decoded.rejection), (vec!["a", "b"], &None));
        let told = decoded.alerts.into_iter().map(|Indexed { alert, .. }| {
            let tenant = alert.tenant.as_deref().map(str::to_owned);
            (alert.severity, tenant, alert.updated.map(Timestamp::as_second))
        });
        told.collect::<Vec<_>>()
    };
    let own = (Severity::High, Some("fabrikam.example".to_owned()), Some(1_795_000_001));
    let around = (Severity::Low, Some("contoso.example".to_owned()), Some(1_795_000_000));
    assert_eq!(told(message), [around.clone(), own.clone()]);
    // Only in the list's own message.
    assert_eq!(told(&format!(r#"[{message},{{"batch":{{"items":[]}}}}]"#)), [around, own.clone()]);
    let lone = r#"{"batch":{"items":[A,B]}}"#;
    assert_eq!(
        told(&format!("{lone}\n{{\"owner\":[\"x\"],\"batch\":{{\"items\":[]}}}}")),
        [(Severity::Unspecified, None, None), own]
    );
}

#[test]
fn each_message_tells_of_the_alerts_in_its_own_list_before_those_of_one_id_become_one() {
    let reader = Decoder::new(InputFormat::Auto, Some(mapping(Some("/batch/items"))), Filter::default());
    let message = |owner: &str, around: &str, level: &str| {
        format!(
            r#"{{"owner":["{owner}"],"detection":{{"level":"{around}"}},"batch":{{"items":[{{"detection":{{"alert/id":"a"{level}}}}}]}}}}"#
        )
    };
    let told = |messages: [String; 2]| {
        let decoded = reader.decode(Some(format!("[{}]", messages.join(",")).as_bytes()), NOW);
        let told = decoded
            .alerts
            .into_iter()
            .map(|Indexed { index, alert, .. }| (index, alert.tenant.as_deref().map(str::to_owned), alert.severity));
        told.collect::<Vec<_>>()
    };
    let of = |tenant: &str| Some(tenant.to_owned());
    assert_eq!(
        told([message("x.example", "low", ""), message("y.example", "high", "")]),
        [(0, of("x.example"), Severity::Low), (1, of("y.example"), Severity::High)]
    );
    assert_eq!(
        told([message("x.example", "low", ""), message("x.example", "high", "")]),
        [(0, of("x.example"), Severity::High)]
    );
    // It says something, if nothing that is known.
    assert_eq!(
        told([message("x.example", "low", r#","level":"P1""#), message("y.example", "low", r#","level":"Medium""#)]),
        [(0, of("x.example"), Severity::Unspecified), (1, of("y.example"), Severity::Medium)]
    );
}

/// Its lists are of the pipeline's own then, wherever they stand in it and however many.
#[rstest]
#[case::before(r#"{"value":[{"id":"x_1"}],"detection":{"alert/id":"a_1"}}"#, &["a_1"])]
#[case::behind(r#"{"detection":{"alert/id":"a_1"},"records":["x",7]}"#, &["a_1"])]
#[case::several(r#"{"value":[],"detection":{"alert/id":"a_1"},"records":[{"id":"x_1"}]}"#, &["a_1"])]
#[case::in_a_page(r#"{"value":[{"detection":{"alert/id":"a_1"},"value":[]},{"id":"b_1"}]}"#, &["a_1", "b_1"])]
#[case::in_an_envelope(r#"{"time":0,"records":[{"value":[{"detection":{"alert/id":"a_1"}}]}]}"#, &["a_1"])]
fn a_record_that_the_mapping_reads_is_an_alert_whatever_lists_are_in_it(
    #[case] message: &str,
    #[case] expected: &[&str],
    #[values(false, true)] keeps_originals: bool,
) {
    let decoder = Decoder::new(InputFormat::Auto, Some(mapping(None)), Filter::default());
    let decoded = decoder.keeping_originals(keeps_originals).decode(Some(message.as_bytes()), NOW);
    assert_eq!((ids(&decoded), &decoded.skips[..], &decoded.rejection), (expected.to_vec(), [].as_slice(), &None));
}

#[rstest]
#[case::two(r#"{"value":[{"id":"a_1"}],"records":[]}"#, "holds more than one list")]
#[case::an_alert_of_a_shape(r#"{"value":[{"id":"a_1"}],"id":"b_1"}"#, "holds a list and is an alert itself")]
#[case::broken(r#"{"value":[{"id":"a_1"},]}"#, "not JSON at byte 23")]
#[case::too_many_in_each_other(r#"{"value":[[[[[[]]]]]]}"#, "nested more than 4 deep")]
fn beside_a_mapping_lists_are_read_as_without_one(#[case] message: &str, #[case] words: &str) {
    for mapping in [None, Some(mapping(None))] {
        let decoder = Decoder::new(InputFormat::Auto, mapping, Filter::default());
        let rejection = decoder.decode(Some(message.as_bytes()), NOW).rejection.unwrap();
        assert!(rejection.detail.contains(words), "{}", rejection.detail);
    }
}

#[test]
fn with_a_mapping_alone_nothing_else_is_read() {
    let decoder = Decoder::new(InputFormat::Custom, Some(mapping(None)), Filter::default());
    for name in ["graph.json", "list-page.json", "bare-ids.txt"] {
        let read = decoder.decode(Some(&input(name)), NOW);
        assert!(read.alerts.is_empty() && read.rejection.is_some(), "{name}");
    }
}

#[test]
fn info_and_evidence_of_an_alert_are_one_alert_with_the_severity_of_the_info() {
    let decoded = auto(input("streaming-envelope.json"));
    assert_eq!(ids(&decoded), ["da638034938542563831_172489803"]);
    assert_eq!(decoded.alerts[0].alert.severity, Severity::Medium);
}

#[rstest]
#[case::severities(Filter { severities: vec![Severity::High], ..Filter::default() }, &[Skip::UnwantedSeverity])]
#[case::of_the_whole_alert(Filter { severities: vec![Severity::Medium], ..Filter::default() }, &[])]
#[case::sources(Filter { detection_sources: vec!["Antivirus".into()], ..Filter::default() }, &[Skip::UnwantedDetectionSource])]
#[case::its_source(Filter { detection_sources: vec!["edr".into()], ..Filter::default() }, &[])]
#[case::age(Filter { max_age: Some(Duration::from_hours(24)), ..Filter::default() }, &[Skip::TooOld])]
#[case::tenants(Filter { tenants: vec!["other".into()], ..Filter::default() }, &[Skip::UnwantedTenant])]
fn what_the_filter_leaves_out_is_a_skip(#[case] filter: Filter, #[case] skips: &[Skip]) {
    let decoder = Decoder::new(InputFormat::Auto, None, filter);
    let decoded = decoder.decode(Some(&input("streaming-envelope.json")), NOW);
    assert_eq!(decoded.alerts.len(), 1 - skips.len());
    let others = [Skip::OtherProduct, Skip::OtherProduct, Skip::OtherTable];
    assert_eq!(decoded.skips, [&others, skips].concat());
}

#[rstest]
#[case::words_after_a_value("{\"id\":\"a_1\"} x", "not JSON at byte 13: trailing characters")]
#[case::two_values_on_a_line("{\"id\":\"a_1\"}{\"id\":\"b_1\"}", "not JSON at byte 12: trailing characters")]
#[case::a_broken_line("{\"id\":\"a_1\"}\n{\"id\"", "not JSON at byte 18: EOF while parsing an object")]
#[case::a_broken_value_after_lines("{\"id\":\"a_1\"}\n\n[1,\n x]", "not JSON at byte 19: expected value")]
#[case::words("what\na_1", "not JSON at byte 0: expected value")]
#[case::an_unknown_form("da123_1", "not JSON at byte 0: expected value")]
#[case::a_message_that_is_cut(
    r#"{"message":"[{\"id\":\"a_1\"}"}"#,
    "in `/message`: not JSON at byte 13: EOF while parsing a list"
)]
fn lines_that_are_none_reject_the_message(#[case] payload: &str, #[case] detail: &str) {
    let decoded = auto(payload);
    assert!(decoded.alerts.is_empty() && decoded.skips.is_empty(), "{decoded:?}");
    let rejection = decoded.rejection.unwrap();
    assert_eq!((rejection.reason, &*rejection.detail), (Reason::NotJson, detail));
}

#[test]
fn messages_within_messages_are_entered_a_few_times_only() {
    let nested =
        |times| (0..times).fold(r#"{"id":"a_1"}"#.to_owned(), |text, _| json!({ "message": text }).to_string());
    assert_eq!(ids(&auto(nested(4))), ["a_1"]);
    let rejection = auto(nested(5)).rejection.unwrap();
    assert!(rejection.detail.contains("nested more than 4 deep"), "{}", rejection.detail);
}

#[test]
fn a_message_that_is_no_json_is_no_shape() {
    let rejection = auto(r#"{"severity":"info","message":"the service started"}"#).rejection.unwrap();
    assert_eq!(rejection.reason, Reason::UnknownShape);
}

proptest! {
    /// However a message of any shape is damaged, it ends as alerts, skips or a rejection.
    #[test]
    fn damaged_messages_end_without_a_panic(
        name in prop::sample::select(vec![
            "streaming-envelope.json", "list-page.json", "graph-page.json", "graph-legacy.json", "siem-detections.json",
            "ecs-m365-event.json", "filebeat-message.json", "bare-ids.txt", "lines-of-any-shape.json",
        ]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut payload = input(name);
        for (at, byte) in damage {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if is_cut {
            payload.truncate(cut.index(payload.len()));
        }
        let decoded = auto(&payload);
        prop_assert!(!decoded.alerts.is_empty() || !decoded.skips.is_empty() || decoded.rejection.is_some());
    }
}

/// What is around a message changes nothing of what is in it.
#[rstest]
fn every_shape_gzipped_or_with_a_schema_before_it_gives_the_same(#[files("tests/fixtures/input/*")] path: PathBuf) {
    let message = fs::read(&path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&message).unwrap();
    let framed = [b"\0\0\0\0\x07", &message[..]].concat();
    let decoder = Decoder::default();
    let plain = decoder.decode(Some(&message), NOW);
    assert_eq!(decoder.decode(Some(&gzip.finish().unwrap()), NOW), plain);
    if message.trim_ascii_start().starts_with(b"{") || message.trim_ascii_start().starts_with(b"[") {
        assert_eq!(decoder.decode(Some(&framed), NOW), plain);
    }
}

/// Found by the fuzzer: each further item about the second tenant's alert was an alert of its own.
#[test]
fn the_same_id_of_two_tenants_is_two_alerts_however_many_items_are_about_them() {
    let of = |tenant: &str| format!(r#"{{"id":"a","aadTenantId":"{tenant}"}}"#);
    let items = [of("one"), of("two"), of("two"), of("one"), of("three"), r#"{"id":"a"}"#.to_owned(), of("three")];
    let decoded = auto(format!("[{}]", items.join(",")));
    let tenants: Vec<_> = decoded.alerts.iter().map(|indexed| indexed.alert.tenant.as_deref().unwrap()).collect();
    assert_eq!(tenants, ["one", "two", "three"]);
}
