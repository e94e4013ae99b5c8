//! What each shape decodes to, and each kind of bad input to which end. All names and ids are made up.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::domain::alert::{AlertId, Severity};

const ID: &str = "da637551227677560813_-961444813";
const TENANT: &str = "aaaaaaaa-0000-0000-0000-00000000000b";

/// An alert resource with the members the service sends, in the form of now.
const RESOURCE: &str = r#"{
  "id": "da637551227677560813_-961444813", "incidentId": 17, "investigationId": null, "assignedTo": "Automation",
  "severity": "Medium", "status": "New", "classification": null, "determination": null,
  "investigationState": "Queued", "detectionSource": "WindowsDefenderAtp", "category": "Execution",
  "threatFamilyName": null, "title": "Low-reputation \"arbitrary\" code", "description": "Bin\u00e4ries {[\\",
  "alertCreationTime": "2021-05-05T10:12:48.0560813Z", "firstEventTime": "2021-05-05T10:11:09.13Z",
  "lastEventTime": "2021-05-05T10:11:09.13Z", "lastUpdateTime": "2021-05-06T01:02:03.7733333Z", "resolvedTime": null,
  "machineId": "111e6dd8c833c8a052ea231ec1b19adaf497b625", "computerDnsName": "host-1.example",
  "rbacGroupName": "A", "aadTenantId": "AAAAAAAA-0000-0000-0000-00000000000B", "threatName": null,
  "mitreTechniques": ["T1064", "T1085"], "relatedUser": {"userName": "a", "domainName": "b"},
  "loggedOnUsers": [], "comments": [{"comment": "id", "createdBy": "a", "createdTime": "2021-05-05T12:00:00Z"}],
  "evidence": [{"entityType": "Ip", "ipAddress": "10.0.0.1", "id": "none", "severity": "High"}]
}"#;

/// The form of 2019: no tenant, `evidence` of no kind.
const RESOURCE_2019: &str = r#"{"id":"636688558380765161_2136280442","severity":"Low","status":"InProgress",
  "category":"General","title":"t","alertCreationTime":"2018-08-03T18:37:18.6385143Z",
  "lastUpdateTime":"2018-08-03T18:37:19Z","machineId":"m","recommendedAction":"r"}"#;

fn row(table: &str, properties: &str) -> String {
    format!(
        r#"{{"time":"2021-05-05T10:12:50.79Z","tenantId":"{TENANT}","operationName":"Publish",
            "category":"AdvancedHunting-{table}","properties":{properties},"Tenant":"DefaultTenant"}}"#
    )
}

const NOW: jiff::Timestamp = jiff::Timestamp::constant(1_795_000_000, 0);

fn decode(payload: Option<&[u8]>) -> Decoded {
    Decoder::default().decode(payload, NOW)
}

fn decoded(payload: &str) -> Decoded {
    decode(Some(payload.as_bytes()))
}

fn ids(decoded: &Decoded) -> Vec<(usize, &str)> {
    decoded.alerts.iter().map(|indexed| (indexed.index, indexed.alert.id.as_str())).collect()
}

fn only_alert(payload: &str) -> Alert {
    let decoded = decoded(payload);
    assert_eq!((decoded.alerts.len(), &decoded.skips[..], &decoded.rejection), (1, [].as_slice(), &None));
    decoded.alerts.into_iter().next().unwrap().alert
}

fn only_rejection(payload: &[u8]) -> Rejection {
    let decoded = decode(Some(payload));
    assert_eq!((&decoded.alerts[..], &decoded.skips[..]), ([].as_slice(), [].as_slice()));
    decoded.rejection.unwrap()
}

fn time(text: &str) -> jiff::Timestamp {
    text.parse().unwrap()
}

mod shapes {
    use super::*;

    #[test]
    fn alert_resource() {
        let expected = Alert {
            id: AlertId::parse(ID).unwrap(),
            tenant: Some(TENANT.into()),
            severity: Severity::Medium,
            updated: Some(time("2021-05-06T01:02:03.7733333Z")),
            created: Some(time("2021-05-05T10:12:48.0560813Z")),
        };
        assert_eq!(only_alert(RESOURCE), expected);
    }

    #[test]
    fn alert_resource_of_2019() {
        let expected = Alert {
            id: AlertId::parse("636688558380765161_2136280442").unwrap(),
            tenant: None,
            severity: Severity::Low,
            updated: Some(time("2018-08-03T18:37:19Z")),
            created: Some(time("2018-08-03T18:37:18.6385143Z")),
        };
        assert_eq!(only_alert(RESOURCE_2019), expected);
    }

    #[test]
    fn alert_resource_with_nothing_readable_beside_its_id() {
        let alert =
            only_alert(r#"{"id":"a","severity":5,"lastUpdateTime":"soon","alertCreationTime":[],"aadTenantId":{}}"#);
        let nothing = (None, Severity::Unspecified, None, None);
        assert_eq!((alert.tenant, alert.severity, alert.updated, alert.created), nothing);
    }

    #[rstest]
    #[case::id(r#"{"id":"a_1"}"#)]
    #[case::alert_id(r#"{"alertId":"a_1"}"#)]
    #[case::pascal_case(r#"{"AlertId":"a_1"}"#)]
    #[case::escaped(r#" {"\u0069d" : "\u0061_1"} "#)]
    #[case::beside_an_id_of_the_message(r#"{"id":17,"alertId":"a_1"}"#)]
    fn bare_id(#[case] payload: &str) {
        let alert = only_alert(payload);
        assert_eq!((alert.id.as_str(), alert.severity, alert.tenant), ("a_1", Severity::Unspecified, None));
    }

    #[test]
    fn list_page() {
        let page = format!(
            r#"{{"@odata.context":"https://host/api/$metadata#Alerts","value":[{RESOURCE},{RESOURCE_2019}],
                "@odata.nextLink":"https://host/api/alerts?$skip=2"}}"#
        );
        let decoded = decoded(&page);
        assert_eq!(ids(&decoded), [(0, ID), (1, "636688558380765161_2136280442")]);
        assert_eq!((decoded.skips, decoded.rejection), (vec![], None));
    }

    #[test]
    fn bare_array_of_mixed_shapes() {
        let info = row("AlertInfo", r#"{"AlertId":"b"}"#);
        let array = format!(r#"[{{"id":"a"}}, {info}, {RESOURCE}, {{"value":[{{"id":"c"}}]}}]"#);
        assert_eq!(ids(&decoded(&array)), [(0, "a"), (1, "b"), (2, ID), (3, "c")]);
    }

    #[rstest]
    #[case::info("AlertInfo")]
    #[case::evidence("AlertEvidence")]
    #[case::old_events("AlertEvents")]
    fn streaming_row_outside_an_envelope(#[case] table: &str) {
        let properties = format!(
            r#"{{"Timestamp":"2021-05-05T10:08:00.1Z","AlertId":"{ID}","Severity":"high",
                "ServiceSource":"Microsoft Defender for Endpoint","AttackTechniques":"[\"T (T1078)\"]"}}"#
        );
        let expected = Alert {
            id: AlertId::parse(ID).unwrap(),
            tenant: Some(TENANT.into()),
            severity: Severity::High,
            updated: None,
            created: AlertId::parse(ID).unwrap().created(),
        };
        assert_eq!(only_alert(&row(table, &properties)), expected);
    }

    #[test]
    fn streaming_row_whose_id_tells_no_time_was_created_when_it_was_received() {
        let id = "daefa1828b-dd4e-405c-8a3b-aa28596830dd_1";
        let alert = only_alert(&row("AlertEvidence", &format!(r#"{{"AlertId":"{id}"}}"#)));
        assert_eq!((alert.created, alert.severity), (Some(time("2021-05-05T10:12:50.79Z")), Severity::Unspecified));
    }

    #[test]
    fn envelope() {
        let records = [
            row("AlertInfo", &format!(r#"{{"AlertId":"{ID}","Severity":"Low"}}"#)),
            row("AlertEvidence", &format!(r#"{{"AlertId":"{ID}","EntityType":"Ip"}}"#)),
            row("AlertInfo", r#"{"AlertId":"fa1","ServiceSource":"Microsoft Defender for Office 365"}"#),
            row("DeviceEvents", r#"{"DeviceId":"d"}"#),
            row("AlertInfo", r#"{"AlertId":"da2","ServiceSource":""}"#),
        ];
        let decoded = decoded(&format!(r#"{{"records":[{}]}}"#, records.join(",")));
        assert_eq!(ids(&decoded), [(0, ID), (4, "da2")]);
        assert_eq!(decoded.alerts[0].alert.severity, Severity::Low);
        assert_eq!((decoded.skips, decoded.rejection), (vec![Skip::OtherProduct, Skip::OtherTable], None));
    }
}

mod skips {
    use super::*;

    #[test]
    fn tombstone_is_skipped() {
        let expected = Decoded { skips: vec![Skip::Tombstone], ..Decoded::default() };
        assert_eq!(decode(None), expected);
    }

    #[rstest]
    #[case::page(r#"{"value":[]}"#)]
    #[case::array("[]")]
    #[case::envelope(r#" {"records" : [ ] } "#)]
    fn empty_pages_are_skipped(#[case] payload: &str) {
        assert_eq!(decoded(payload), Decoded { skips: vec![Skip::EmptyPage], ..Decoded::default() });
    }

    #[test]
    fn rows_of_other_tables_are_skipped_whatever_is_in_them() {
        assert_eq!(decoded(&row("IdentityInfo", "7")).skips, [Skip::OtherTable]);
    }

    #[test]
    fn other_products_are_skipped_before_their_ids_are_judged() {
        let payload = row("AlertInfo", r#"{"AlertId":"a/b","ServiceSource":"Microsoft Sentinel"}"#);
        assert_eq!(decoded(&payload).skips, [Skip::OtherProduct]);
    }
}

mod merging {
    use super::*;

    fn resource(severity: &str, updated: &str, created: &str) -> String {
        format!(r#"{{"id":"a","severity":"{severity}","lastUpdateTime":"{updated}","alertCreationTime":"{created}"}}"#)
    }

    #[test]
    fn one_alert_of_several_items_is_as_urgent_as_any_as_fresh_as_the_latest_as_old_as_the_first() {
        let items = [
            r#"{"id":"other"}"#.to_owned(),
            resource("Low", "2026-01-02T00:00:00Z", "2026-01-01T00:00:02Z"),
            resource("High", "2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"),
            resource("UnSpecified", "2026-01-03T00:00:00Z", "2026-01-01T00:00:03Z"),
            r#"{"id":"a"}"#.to_owned(),
        ];
        let decoded = decoded(&format!("[{}]", items.join(",")));
        assert_eq!(ids(&decoded), [(0, "other"), (1, "a")]);
        let alert = &decoded.alerts[1].alert;
        assert_eq!(alert.severity, Severity::High);
        assert_eq!(alert.updated, Some(time("2026-01-03T00:00:00Z")));
        assert_eq!(alert.created, Some(time("2026-01-01T00:00:01Z")));
    }

    #[rstest]
    #[case("Unspecified", "Informational", Severity::Informational)]
    #[case("Low", "Unspecified", Severity::Low)]
    #[case("Medium", "Low", Severity::Medium)]
    #[case("Unspecified", "Unspecified", Severity::Unspecified)]
    fn a_known_severity_wins_over_an_unspecified_one(#[case] one: &str, #[case] two: &str, #[case] merged: Severity) {
        let [one, two] = [one, two].map(|severity| resource(severity, "", ""));
        assert_eq!(decoded(&format!("[{one},{two}]")).alerts[0].alert.severity, merged);
    }

    #[test]
    fn a_tenant_told_later_is_taken_over_and_another_tenants_alert_stays_its_own() {
        let tenants = [r#""id":"a""#, r#""id":"a","aadTenantId":"one""#, r#""id":"a","aadTenantId":"two""#];
        let decoded = decoded(&format!("[{{{}}}]", tenants.join("},{")));
        let tenants: Vec<_> = decoded.alerts.iter().map(|indexed| indexed.alert.tenant.as_deref()).collect();
        assert_eq!(tenants, [Some("one"), Some("two")]);
    }
}

/// Section by section: what is no JSON, what has no usable id, what is of no known shape.
mod rejections {
    use super::*;

    #[rstest]
    #[case::words(b"<html>", "not JSON at byte 0: expected value")]
    #[case::empty(b"", "not JSON at byte 0: EOF while parsing a value")]
    #[case::truncated(br#"{"id":"a","severi"#, "not JSON at byte 17: EOF while parsing a string")]
    #[case::truncated_after_good_items(br#"[{"id":"a"},{"id":"b"},"#, "not JSON at byte 23: EOF while parsing a value")]
    #[case::truncated_in_the_envelope(br#"{"records":[{"id":"a"}"#, "not JSON at byte 22: EOF while parsing a list")]
    #[case::trailing_text(br#"{"id":"a"} x"#, "not JSON at byte 11: trailing characters")]
    #[case::invalid_utf8(b"{\"id\":\"a\xff\"}", "not UTF-8 at byte 8")]
    #[case::utf16(b"\xff\xfe{\0", "not UTF-8 at byte 0")]
    #[case::byte_order_mark(b"\xef\xbb\xbf{\"id\":\"a\"}", "not JSON at byte 0: a byte order mark stands before it")]
    #[case::a_form_feed_is_no_space(b"{\"id\":\"a\"}\x0c", "not JSON at byte 10: trailing characters")]
    #[case::nul(b"\0{\"id\":\"a\"}", "not JSON at byte 0: expected value")]
    #[case::nul_in_text(
        b"{\"id\":\"a\0\"}",
        "not JSON at byte 8: control character (\\u0000-\\u001F) found while parsing a string"
    )]
    #[case::raw_tab_in_skipped_text(
        b"{\"id\":\"a\",\"x\":\"\t\"}",
        "not JSON at byte 14: control character (\\u0000-\\u001F) found while parsing a string"
    )]
    #[case::broken_name_deep_in_an_envelope(
        br#"{"records":[{"id":"a"},{"\ud800":1}]}"#,
        "not JSON at byte 31: unexpected end of hex escape"
    )]
    #[case::lone_surrogate_as_id(br#"{"id":"\ud800"}"#, "not JSON at byte 13: unexpected end of hex escape")]
    fn what_is_not_json_is_rejected_whole_with_its_position(#[case] payload: &[u8], #[case] detail: &str) {
        let rejection = only_rejection(payload);
        assert_eq!((rejection.reason, rejection.detail.as_str()), (Reason::NotJson, detail));
    }

    #[rstest]
    #[case::arrays("[".repeat(200_000), Reason::NotJson)]
    #[case::closed_arrays(nested(200_000), Reason::UnknownShape)]
    #[case::objects(r#"{"a":"#.repeat(200_000), Reason::NotJson)]
    #[case::closed_objects(format!("{}1{}", r#"{"a":"#.repeat(200_000), "}".repeat(200_000)), Reason::NotJson)]
    #[case::in_a_skipped_member(format!(r#"{{"id":"a","x":{}}}"#, nested(200_000)), Reason::NotJson)]
    #[case::in_place_of_the_id(format!(r#"{{"id":{}}}"#, nested(200_000)), Reason::NotJson)]
    #[case::in_an_envelope(format!(r#"{{"records":[{{"id":"a","x":{}}}]}}"#, nested(200_000)), Reason::NotJson)]
    fn a_nesting_of_200_000_is_rejected(#[case] payload: String, #[case] reason: Reason) {
        assert_eq!(only_rejection(payload.as_bytes()).reason, reason);
    }

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[rstest]
    #[case::zeroes(b'\0')]
    #[case::brackets(b'[')]
    #[case::high_bytes(0xff)]
    #[case::quotes(b'"')]
    fn ten_mebibytes_of_garbage_are_rejected(#[case] byte: u8) {
        assert_eq!(only_rejection(&vec![byte; 10 << 20]).reason, Reason::NotJson);
    }

    #[rstest]
    #[case::null("null", "item 0: `/id` is null, not text")]
    #[case::number("17", "item 0: `/id` is a number, not text")]
    #[case::negative_number("-1e5", "item 0: `/id` is a number, not text")]
    #[case::array(r#"["a"]"#, "item 0: `/id` is an array, not text")]
    #[case::object(r#"{"id":"a"}"#, "item 0: `/id` is an object, not text")]
    #[case::boolean("true", "item 0: `/id` is a boolean, not text")]
    #[case::empty(r#""""#, "item 0: the alert id is empty")]
    fn ids_that_are_none_are_rejected(#[case] id: &str, #[case] detail: &str) {
        let rejection = only_rejection(format!(r#"{{"id":{id}}}"#).as_bytes());
        assert_eq!((rejection.reason, rejection.detail.as_str()), (Reason::InvalidAlertId, detail));
    }

    #[rstest]
    #[case::resource(r#"{"machineId":"m","alertCreationTime":"2026-01-01T00:00:00Z"}"#.to_owned(), "`/id` is missing")]
    #[case::row(row("AlertInfo", r#"{"Severity":"High"}"#), "`/properties/AlertId` is missing")]
    #[case::row_without_properties(row("AlertEvidence", "null"), "`/properties/AlertId` is missing")]
    #[case::row_with_a_null_id(row("AlertInfo", r#"{"AlertId":null}"#), "`/properties/AlertId` is null, not text")]
    fn missing_ids_are_rejected(#[case] payload: String, #[case] detail: &str) {
        let rejection = only_rejection(payload.as_bytes());
        assert_eq!((rejection.reason, rejection.detail), (Reason::InvalidAlertId, format!("item 0: {detail}")));
    }

    #[rstest]
    #[case::parent("..")]
    #[case::here(".")]
    #[case::encoded("%2e%2e")]
    #[case::encoded_slash("..%2f")]
    #[case::slash("a/b")]
    #[case::query("a?b")]
    #[case::fragment("a#b")]
    #[case::authority("@evil")]
    #[case::crlf("a\\r\\nb")]
    #[case::tab("a\\t")]
    #[case::nul("a\\u0000")]
    #[case::escape("\\u001b[2J")]
    #[case::unicode_digits("١٢٣")]
    #[case::too_long(&"a".repeat(129))]
    fn hostile_ids_are_rejected_in_every_shape(#[case] id: &str) {
        let shapes = [
            format!(r#"{{"id":"{id}"}}"#),
            format!(r#"{{"alertId":"{id}"}}"#),
            format!(r#"{{"AlertId":"{id}"}}"#),
            RESOURCE.replacen(ID, id, 1),
            row("AlertInfo", &format!(r#"{{"AlertId":"{id}"}}"#)),
            format!(r#"{{"records":[{}]}}"#, row("AlertEvidence", &format!(r#"{{"AlertId":"{id}"}}"#))),
        ];
        for payload in shapes {
            let rejection = only_rejection(payload.as_bytes());
            assert_eq!(rejection.reason, Reason::InvalidAlertId, "{payload}");
            assert!(rejection.detail.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", rejection.detail);
        }
    }

    #[rstest]
    #[case::id(r#"{"id":"a","id":"b"}"#, Reason::InvalidAlertId)]
    #[case::equal_ids(r#"{"id":"a","id":"a"}"#, Reason::InvalidAlertId)]
    #[case::escaped_id(r#"{"id":"a","\u0069d":"b"}"#, Reason::InvalidAlertId)]
    #[case::severity(r#"{"id":"a","severity":"High","severity":"Low"}"#, Reason::UnknownShape)]
    #[case::tenant(r#"{"id":"a","aadTenantId":"x","aadTenantId":"y"}"#, Reason::UnknownShape)]
    #[case::properties(
        r#"{"properties":{},"category":"AdvancedHunting-AlertInfo","properties":{}}"#,
        Reason::UnknownShape
    )]
    #[case::category(r#"{"category":"AdvancedHunting-AlertInfo","category":"x"}"#, Reason::UnknownShape)]
    fn duplicate_names_that_decide_are_rejected(#[case] payload: &str, #[case] reason: Reason) {
        let rejection = only_rejection(payload.as_bytes());
        assert_eq!(rejection.reason, reason);
        assert!(rejection.detail.contains("occurs more than once"), "{}", rejection.detail);
    }

    #[test]
    fn duplicate_names_that_nobody_reads_do_no_harm() {
        assert_eq!(only_alert(r#"{"title":"x","id":"a","title":"y"}"#).id.as_str(), "a");
    }

    #[rstest]
    #[case::empty_object("{}", "an object without members")]
    #[case::other_object(r#"{"a":1,"b\u001b":2}"#, "`a`, `b\\u{1b}`")]
    #[case::log_line(r#"{"severity":"info","message":"m"}"#, "`severity`, `message`")]
    #[case::value_is_null(r#"{"value":null}"#, "`value`")]
    #[case::records_is_an_object(r#"{"records":{}}"#, "`records`")]
    #[case::number("7", "a number is no alert")]
    #[case::text(r#""alert_1""#, "text is no alert")]
    #[case::null("null", "null is no alert")]
    #[case::boolean("true", "a boolean is no alert")]
    #[case::list_with_an_id(r#"{"id":"a","value":[]}"#, "`id`, `value` holds a list and is an alert itself")]
    #[case::row_with_a_list(
        r#"{"category":"AdvancedHunting-AlertInfo","properties":{"AlertId":"a"},"value":[]}"#,
        "holds a list and is an alert itself"
    )]
    #[case::the_same_list_twice(r#"{"records":[{"id":"a"}],"records":[]}"#, "holds more than one list")]
    #[case::two_lists(r#"{"records":[],"value":[]}"#, "holds more than one list")]
    #[case::lists_in_lists("[[[[[]]]]]", "nested more than 4 deep")]
    fn unknown_shapes_are_rejected(#[case] payload: &str, #[case] words: &str) {
        let rejection = only_rejection(payload.as_bytes());
        assert_eq!(rejection.reason, Reason::UnknownShape);
        assert!(rejection.detail.contains(words), "{}", rejection.detail);
    }

    #[test]
    fn more_items_than_allowed_reject_the_whole_message() {
        let items = |count| format!("[{}]", vec![r#"{"id":"a"}"#; count].join(","));
        assert_eq!(decoded(&items(MAX_ITEMS)).alerts.len(), 1);
        let rejection = only_rejection(items(MAX_ITEMS + 1).as_bytes());
        assert_eq!(
            (rejection.reason, rejection.detail.as_str()),
            (Reason::UnknownShape, "more than 100000 items in one message; split it",)
        );
    }

    #[test]
    fn good_items_beside_bad_ones_give_their_alerts_and_the_bad_ones_one_rejection() {
        let payload = r#"[{"id":"a"}, 7, {"id":"../b"}, {"id":"c"}, {"value":[]}, {}, {"id":null}, {}]"#;
        let decoded = decoded(payload);
        assert_eq!(ids(&decoded), [(0, "a"), (3, "c")]);
        assert_eq!(decoded.skips, [Skip::EmptyPage]);
        let rejection = decoded.rejection.unwrap();
        assert_eq!(rejection.reason, Reason::InvalidAlertId);
        let expected = "5 of 8 items can't be used: item 1: a number is no alert; \
                        item 2: the alert id has a character at byte 0 that is none of A-Z a-z 0-9 _ -; \
                        item 5: an object without members is none of the known shapes: \
                        a streaming row, a SIEM detection, an ECS event, a legacy Graph alert, a Graph alert, \
                        an alert resource, a bare id; and 2 more";
        assert_eq!(rejection.detail, expected);
    }
}

/// JSON that comes near the shapes, so that the walk is not over at the first byte.
fn any_json() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "id|alertId|AlertId|records|value|category|properties|severity|lastUpdateTime|tenantId",
        "[a-z]{1,3}"
    ];
    let text = prop_oneof!["AdvancedHunting-(AlertInfo|Other)", "[a-z0-9_-]{0,4}", any::<String>()];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<i32>().prop_map(|number| number.to_string()),
        text.prop_map(|text| serde_json::Value::from(text).to_string()),
    ];
    leaf.prop_recursive(5, 64, 5, move |inner| {
        let members = prop::collection::vec((name.clone(), inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

fn assert_sound(decoded: &Decoded) {
    assert!(!decoded.alerts.is_empty() || !decoded.skips.is_empty() || decoded.rejection.is_some());
    assert!(decoded.alerts.is_sorted_by(|a, b| a.index < b.index));
    if let Some(rejection) = &decoded.rejection {
        assert!(rejection.detail.len() < 2_000);
        assert!(rejection.detail.chars().all(|char| !char.is_control()), "{}", rejection.detail);
    }
}

proptest! {
    #[test]
    fn any_bytes_end_as_alert_skip_or_rejection(bytes in any::<Vec<u8>>()) {
        assert_sound(&decode(Some(&bytes)));
    }

    #[test]
    fn any_json_ends_as_alert_skip_or_rejection(json in any_json()) {
        let decoded = decoded(&json);
        assert_sound(&decoded);
        prop_assert_ne!(decoded.rejection.map(|rejection| rejection.reason), Some(Reason::NotJson));
    }

    #[test]
    fn any_cut_or_changed_resource_ends_without_a_panic(at in 0..RESOURCE.len(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = RESOURCE.as_bytes().to_vec();
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let decoded = decode(Some(&bytes));
        assert_sound(&decoded);
        prop_assert!(!cut || decoded.alerts.is_empty());
    }
}
