//! Avro to JSON, with the schema that it was written with.

use std::{
    collections::HashSet,
    io::{self, Read},
};

use apache_avro::{
    Schema,
    reader::datum::{GenericDatumReader, GenericDatumReaderBuilder},
    util::max_allocation_bytes,
};
use serde_json::Value;

use super::packed::not_unpacked;
use crate::domain::outcome::Rejection;

/// Most bytes that one value may take while it is read: Avro tells a length before what it counts, so that a few bytes could
/// ask for any memory.
const MAX_VALUE: usize = 64 << 20;

/// A schema with those that it refers to.
#[derive(Debug)]
pub struct AvroSchema {
    schema: Schema,
    references: Vec<Schema>,
}

impl AvroSchema {
    /// `references`: each behind those that it refers to itself. The error says in words what is wrong.
    pub fn parse(text: &str, references: &[String]) -> Result<Self, String> {
        let mut empty = HashSet::new();
        for text in references.iter().map(String::as_str).chain([text]) {
            let json: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
            if contains_itself(&json, &mut Vec::new()) {
                return Err(
                    "a record of it contains itself, and so may be nested without end; such are not read".to_owned()
                );
            }
            takes_no_bytes(&json, &mut empty)?;
        }
        let (schema, references) = Schema::parse_str_with_list(text, references).map_err(|error| error.to_string())?;
        Ok(Self { schema, references })
    }

    /// The JSON of what was written: unions are their value, bytes are lists of numbers, times are numbers.
    pub fn json(&self, body: &[u8]) -> Result<Vec<u8>, Rejection> {
        max_allocation_bytes(MAX_VALUE);
        let refused = |error: apache_avro::Error| not_unpacked(format!("it does not fit its Avro schema: {error}"));
        let mut rest = Whole(body);
        let known = self.references.iter().chain([&self.schema]).collect();
        let builder = GenericDatumReader::builder(&self.schema).writer_schemata(known);
        let reader = builder.and_then(GenericDatumReaderBuilder::build);
        let value = reader.and_then(|reader| reader.read_value(&mut rest)).map_err(refused)?;
        let Whole(rest) = rest;
        if !rest.is_empty() {
            return Err(not_unpacked(format!("{} bytes more than its Avro schema reads", rest.len())));
        }
        let json = Value::try_from(value).map_err(refused)?;
        serde_json::to_vec(&json).map_err(|error| not_unpacked(format!("it can't be written as JSON: {error}")))
    }
}

/// Bytes of which none may be missing. apache-avro 0.22 takes the end of what it reads for a null in two places (a union's branch
/// and a text), so that what is cut off would be read as if it were whole, and a few bytes as any number of items.
struct Whole<'a>(&'a [u8]);

impl Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends too early"));
        }
        self.0.read(buffer)
    }
}

/// Whether a named type occurs within itself. `around`: the names of those around it.
fn contains_itself(schema: &Value, around: &mut Vec<String>) -> bool {
    match schema {
        Value::String(name) => around.iter().any(|outer| last_part(outer) == last_part(name)),
        Value::Array(union) => union.iter().any(|branch| contains_itself(branch, around)),
        Value::Object(object) => {
            let name = object.get("name").and_then(Value::as_str).filter(|_| object.contains_key("fields"));
            around.extend(name.map(str::to_owned));
            let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
            let fields = fields.filter_map(|field| field.get("type"));
            let inner = ["type", "items", "values"].iter().filter_map(|key| object.get(*key));
            let found = inner.chain(fields).any(|inner| contains_itself(inner, around));
            if name.is_some() {
                around.pop();
            }
            found
        }
        _ => false,
    }
}

/// Whether a value of this type takes no bytes. Of such an array could hold any number in a few: it is refused. `empty`: the
/// named types that take none.
fn takes_no_bytes(schema: &Value, empty: &mut HashSet<String>) -> Result<bool, String> {
    match schema {
        Value::String(name) => Ok(name == "null" || empty.contains(last_part(name))),
        // Which branch it is takes a byte.
        Value::Array(union) => {
            union.iter().try_for_each(|branch| takes_no_bytes(branch, empty).map(drop)).map(|()| false)
        }
        Value::Object(object) => {
            let member = |name: &str| object.get(name).unwrap_or(&Value::Null);
            let takes_none = match member("type").as_str() {
                Some("record" | "error") => {
                    let fields = member("fields").as_array().into_iter().flatten();
                    let types = fields.filter_map(|field| field.get("type"));
                    let taken = types.map(|field| takes_no_bytes(field, empty)).collect::<Result<Vec<_>, _>>()?;
                    taken.into_iter().all(|takes_none| takes_none)
                }
                Some("array") if takes_no_bytes(member("items"), empty)? => {
                    return Err(
                        "an array of it has items that take no bytes, and so may have any number of them; such are not read"
                            .to_owned(),
                    );
                }
                Some("map") => takes_no_bytes(member("values"), empty).map(|_| false)?,
                Some("fixed") => member("size").as_u64() == Some(0),
                Some("array" | "enum") => false,
                _ => takes_no_bytes(member("type"), empty)?,
            };
            if let (true, Some(name)) = (takes_none, member("name").as_str()) {
                empty.insert(last_part(name).to_owned());
            }
            Ok(takes_none)
        }
        _ => Ok(false),
    }
}

/// A name without its namespace, with which it may be written or not.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use apache_avro::{types::Value as Avro, writer::datum::GenericDatumWriter};
    use rstest::rstest;

    use super::*;

    const ALERT: &str = r#"{"type":"record","name":"Alert","namespace":"x.y","fields":[
        {"name":"id","type":"string"},
        {"name":"severity","type":["null",{"type":"enum","name":"Severity","symbols":["High","Low"]}]},
        {"name":"lastUpdateTime","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#;

    fn written(schema: &str, value: Avro) -> Vec<u8> {
        let schema = Schema::parse_str(schema).unwrap();
        GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
    }

    fn alert() -> Vec<u8> {
        let severity = Avro::Union(1, Box::new(Avro::Enum(0, "High".into())));
        let fields = [
            ("id", Avro::String("da637551227677560813_-961444813".into())),
            ("severity", severity),
            ("lastUpdateTime", Avro::TimestampMillis(1_795_000_000_123)),
        ];
        written(ALERT, Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).to_vec()))
    }

    #[test]
    fn a_record_becomes_the_object_that_shapes_read() {
        let json = AvroSchema::parse(ALERT, &[]).unwrap().json(&alert()).unwrap();
        let expected = r#"{"id":"da637551227677560813_-961444813","severity":"High","lastUpdateTime":1795000000123}"#;
        assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), serde_json::from_str::<Value>(expected).unwrap());
    }

    #[test]
    fn a_schema_may_refer_to_others() {
        let list = r#"{"type":"record","name":"List","fields":[{"name":"value","type":{"type":"array","items":"x.y.Alert"}}]}"#;
        let body = [&[2][..], &alert(), &[0]].concat();
        let json = AvroSchema::parse(list, &[ALERT.to_owned()]).unwrap().json(&body).unwrap();
        assert!(String::from_utf8(json).unwrap().starts_with(r#"{"value":[{"#));
    }

    #[rstest]
    #[case::cut(alert()[..9].to_vec(), "does not fit")]
    #[case::too_long([alert(), vec![0]].concat(), "1 bytes more")]
    #[case::cut_before_the_last_field(alert()[..alert().len() - 6].to_vec(), "does not fit")]
    #[case::cut_before_a_union(alert()[..31].to_vec(), "does not fit")]
    #[case::empty(Vec::new(), "does not fit")]
    #[case::a_length_of_any_memory(vec![0xfe, 0xff, 0xff, 0xff, 0x0f], "does not fit")]
    fn what_does_not_fit_is_refused(#[case] body: Vec<u8>, #[case] words: &str) {
        let rejection = AvroSchema::parse(ALERT, &[]).unwrap().json(&body).unwrap_err();
        assert!(rejection.detail.contains(words), "{}", rejection.detail);
    }

    /// Each item of nothing but unions would be read from behind the end, and take memory.
    #[test]
    fn a_few_bytes_are_not_a_million_items() {
        let schema =
            r#"{"type":"array","items":{"type":"record","name":"A","fields":[{"name":"a","type":["null","string"]}]}}"#;
        let million = [0x80, 0x89, 0x7a];
        assert!(AvroSchema::parse(schema, &[]).unwrap().json(&million).is_err());
    }

    #[rstest]
    #[case::nulls(r#"{"type":"array","items":"null"}"#)]
    #[case::records_of_nothing(
        r#"{"type":"array","items":{"type":"record","name":"A","fields":[{"name":"a","type":"null"}]}}"#
    )]
    #[case::by_name(
        r#"{"type":"record","name":"R","fields":[{"name":"e","type":{"type":"fixed","name":"n.E","size":0}},
            {"name":"l","type":["null",{"type":"array","items":"n.E"}]}]}"#
    )]
    #[case::in_a_map(r#"{"type":"map","values":{"type":"array","items":{"type":"null"}}}"#)]
    fn an_array_whose_items_take_no_bytes_is_not_read(#[case] schema: &str) {
        assert!(AvroSchema::parse(schema, &[]).unwrap_err().contains("take no bytes"));
    }

    #[rstest]
    #[case::by_its_name(r#"{"type":"record","name":"A","fields":[{"name":"a","type":["null","A"]}]}"#)]
    #[case::by_its_whole_name(
        r#"{"type":"record","name":"A","namespace":"n","fields":[{"name":"a","type":{"type":"array","items":"n.A"}}]}"#
    )]
    #[case::further_in(r#"{"type":"record","name":"A","fields":[{"name":"b","type":{"type":"record","name":"B","fields":[{"name":"a","type":{"type":"map","values":"A"}}]}}]}"#)]
    fn what_could_be_nested_without_end_is_not_read(#[case] schema: &str) {
        assert!(AvroSchema::parse(schema, &[]).unwrap_err().contains("contains itself"));
    }
}
