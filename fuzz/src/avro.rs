//! What holds of the JSON that is made of Avro, whatever bytes come.

use std::sync::LazyLock;

use serde_json::Value;

use crate::{
    decode::{AvroSchema, Decoder},
    domain::outcome::Reason,
    property::{NOW, assert_sound},
};

/// Most bytes of JSON that one byte of a body may become, and as many for sixteen that are not there: a value has its name.
const MOST_OF_A_BYTE: usize = 256;

static SCHEMAS: LazyLock<Vec<AvroSchema>> = LazyLock::new(|| {
    let alert = r#"{"type":"record","name":"Alert","namespace":"x.y","fields":[
        {"name":"id","type":"string"},
        {"name":"severity","type":["null",{"type":"enum","name":"Severity","symbols":["High","Low"]}]},
        {"name":"lastUpdateTime","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;
    let list =
        r#"{"type":"record","name":"List","fields":[{"name":"value","type":{"type":"array","items":"x.y.Alert"}}]}"#;
    let of_every_type = r#"{"type":"record","name":"All","fields":[
        {"name":"id","type":"string"}, {"name":"severity","type":["null","string","int"]},
        {"name":"a","type":"boolean"}, {"name":"b","type":"float"}, {"name":"c","type":"double"},
        {"name":"d","type":"bytes"}, {"name":"e","type":{"type":"fixed","name":"F","size":16}},
        {"name":"f","type":{"type":"map","values":["null","long","string"]}},
        {"name":"g","type":{"type":"array","items":{"type":"array","items":"int"}}},
        {"name":"h","type":{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}},
        {"name":"i","type":{"type":"string","logicalType":"uuid"}},
        {"name":"j","type":{"type":"int","logicalType":"date"}},
        {"name":"k","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"l","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"m","type":{"type":"fixed","name":"D","size":12,"logicalType":"duration"}}]}"#;
    // What takes no bytes could be any number of times in a few: such a schema is refused, or its values are bounded.
    let no_bytes = r#"{"type":"array","items":{"type":"record","name":"None","fields":[{"name":"id","type":"null"}]}}"#;
    let parsed = |schema, references: &[String]| AvroSchema::parse(schema, references).expect("a schema");
    let known = [parsed(alert, &[]), parsed(list, &[alert.to_owned()]), parsed(of_every_type, &[])];
    known.into_iter().chain(AvroSchema::parse(no_bytes, &[]).ok()).collect()
});

/// The first byte chooses the schema. Panics if something doesn't hold.
pub fn check(bytes: &[u8]) {
    let Some((choice, body)) = bytes.split_first() else { return };
    let schema = &SCHEMAS[usize::from(*choice) % SCHEMAS.len()];
    let made = schema.json(body);
    assert_eq!(made, schema.json(body), "the same bytes give the same");
    match made {
        Ok(json) => {
            assert!(json.len() <= MOST_OF_A_BYTE * (body.len() + 16), "{} bytes of {}", json.len(), body.len());
            serde_json::from_slice::<Value>(&json).expect("JSON");
            let decoded = Decoder::default().decode_made(&json, json.len(), NOW);
            assert_sound(&decoded);
            let reason = decoded.rejection.map(|rejection| rejection.reason);
            assert_ne!(reason, Some(Reason::NotJson));
        }
        Err(rejection) => {
            assert_eq!(rejection.reason, Reason::NotUnpacked);
            assert!(rejection.detail.len() <= 8 << 10, "a detail of {} bytes", rejection.detail.len());
        }
    }
}
