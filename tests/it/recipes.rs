//! The recipes for SIEMs name what is really published.

use std::{collections::BTreeSet, fs, path::PathBuf};

use serde_json::Value;

fn text(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(file: &str) -> Value {
    serde_json::from_str(&text(file)).unwrap()
}

/// Every `name` in the list at this pointer of the first resource that has one.
fn columns(file: &str, at: &str) -> BTreeSet<String> {
    let template = json(file);
    let resources = template["resources"].as_array().unwrap();
    let columns = resources.iter().find_map(|resource| resource.pointer(at)).unwrap().as_array().unwrap();
    columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect()
}

/// The members of a row, by the schema that is made of the code.
fn row() -> BTreeSet<String> {
    let names: BTreeSet<_> =
        json("config/schemas/sentinel.json")["properties"].as_object().unwrap().keys().cloned().collect();
    assert!(names.len() > 10 && names.contains("AlertId"), "{names:?}");
    names
}

#[test]
fn the_table_and_its_rules_have_the_columns_of_a_row() {
    let row = row();
    assert_eq!(columns("config/sentinel/table.json", "/properties/schema/columns"), row);
    let declared = "/properties/streamDeclarations/Custom-DefenderAlertIps/columns";
    assert_eq!(columns("config/sentinel/dcr-direct.json", declared), row);
    let event_hub = json("config/sentinel/dcr-event-hub.json");
    let mut rules = event_hub["resources"].as_array().unwrap().iter();
    let transform = rules.find_map(|rule| rule.pointer("/properties/dataFlows/0/transformKql")?.as_str()).unwrap();
    let (_, projected) = transform.split_once("| project ").unwrap();
    let projected: BTreeSet<_> =
        projected.split(", ").map(|column| column.split(" = ").next().unwrap().to_owned()).collect();
    assert_eq!(projected, row);
}

#[test]
fn logstash_passes_the_columns_of_a_row_on() {
    let logstash = text("config/sentinel/logstash.conf");
    let (_, kept) = logstash.split_once("keys_to_keep => [").unwrap();
    let (kept, _) = kept.split_once(']').unwrap();
    let kept: BTreeSet<_> = kept.split(',').map(|name| name.trim().trim_matches('"').to_owned()).collect();
    assert_eq!(kept, row());
}

/// The members that a schema names, those of its alternatives too.
fn members(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            found.extend(
                object.get("properties").and_then(Value::as_object).into_iter().flat_map(|names| names.keys().cloned()),
            );
            object.values().for_each(|value| members(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| members(value, found)),
        _ => {}
    }
}

#[test]
fn splunk_reads_from_an_event_what_is_in_it() {
    let mut event = BTreeSet::new();
    members(json("config/schemas/splunk-hec.json").pointer("/$defs/Event").unwrap(), &mut event);
    let props = text("config/splunk/TA-alert-ips/default/props.conf");
    let paths: BTreeSet<_> = props
        .lines()
        .filter(|line| line.starts_with("EVAL-"))
        .flat_map(|line| line.split("spath(_raw, \"").skip(1))
        .map(|rest| rest.split(['"', '{']).next().unwrap())
        .collect();
    assert!(paths.len() > 6, "{paths:?}");
    for path in paths {
        assert!(event.contains(path), "{path} is no member of {event:?}");
    }
}
