//! The settings of Kafka: brokers, group, topics, and librdkafka's own properties.

use std::{collections::BTreeMap, fmt, sync::Arc};

use toml::Value;

use super::{keys::KAFKA_PROPERTIES, output, reader::Reader, value};

/// Brokers and group.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub bootstrap_servers: String,
    pub group_id: String,
    pub properties: KafkaProperties,
}

/// Properties of librdkafka beyond those that the daemon sets itself. `Debug` leaves out the values of secret ones.
#[derive(Clone, Default)]
pub struct KafkaProperties(BTreeMap<String, String>);

impl KafkaProperties {
    /// Names and values, passwords included: for the client alone.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl fmt::Debug for KafkaProperties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&'_ String, &'_ String)| {
            (name.clone(), if is_secret(name) { "(secret)".to_owned() } else { value.clone() })
        };
        f.debug_map().entries(self.0.iter().map(shown)).finish()
    }
}

/// The topics' names: valid, and each used for one purpose.
#[derive(Clone, Debug)]
pub struct Topics {
    /// At least one.
    pub input: Vec<Arc<str>>,
    /// That of `[output]`, and then those of the further outputs.
    pub outputs: Vec<Arc<str>>,
    pub dead_letters: Arc<str>,
    pub journal: Arc<str>,
}

/// Whether the value of a librdkafka property is not to be shown.
pub(super) fn is_secret(property: &str) -> bool {
    const MARKS: [&str; 6] = ["password", "secret", "key", "token", "jaas", "sasl.oauthbearer.config"];
    let property = property.to_lowercase();
    MARKS.iter().any(|mark| property.contains(mark))
}

const COMMITS: &str = "the daemon commits itself, and only what is settled";
const PRODUCER: &str = "the daemon's producer is always idempotent with acks=all, so that nothing is lost or doubled";
const OUTCOME: &str = "the daemon itself decides how long a record may wait for its acknowledgement";
const START: &str = "use input.start";
const BROKERS: &str = "use kafka.bootstrap_servers";

/// Properties that the daemon sets itself, with what to do instead. librdkafka's aliases are among them.
const OWNED: [(&str, &str); 25] = [
    ("bootstrap.servers", BROKERS),
    ("metadata.broker.list", BROKERS),
    ("group.id", "use kafka.group_id"),
    ("auto.offset.reset", START),
    ("enable.auto.commit", COMMITS),
    ("auto.commit.enable", COMMITS),
    ("auto.commit.interval.ms", COMMITS),
    ("enable.auto.offset.store", COMMITS),
    ("offset.store.method", COMMITS),
    ("enable.idempotence", PRODUCER),
    ("enable.gapless.guarantee", PRODUCER),
    ("acks", PRODUCER),
    ("request.required.acks", PRODUCER),
    ("retries", PRODUCER),
    ("message.send.max.retries", PRODUCER),
    ("message.timeout.ms", OUTCOME),
    ("delivery.timeout.ms", OUTCOME),
    ("transactional.id", "the daemon forms it from instance.name where it uses transactions"),
    ("isolation.level", "the daemon reads committed records only"),
    ("enable.partition.eof", "the daemon sets it for itself"),
    ("statistics.interval.ms", "the daemon sets it for its metrics"),
    ("compression.codec", "use output.compression"),
    ("compression.type", "use output.compression"),
    ("client.id", "use instance.name"),
    ("group.instance.id", "use instance.static_member; the id is instance.name"),
];

pub(super) fn read(reader: &mut Reader, property_problem: impl Fn(&str, &str) -> Option<String>) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: reader.read("kafka.bootstrap_servers", bootstrap_servers),
        group_id: reader.read("kafka.group_id", value::name(249, |byte| byte.is_ascii_graphic(), "printable ASCII")),
        properties: read_properties(reader, property_problem),
    }
}

fn read_properties(reader: &mut Reader, property_problem: impl Fn(&str, &str) -> Option<String>) -> KafkaProperties {
    let mut properties = BTreeMap::new();
    for (name, value) in reader.kafka_properties() {
        let path = format!("{KAFKA_PROPERTIES}.{name}");
        if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
            reader.problem(&path, format!("can't be set here: {instead}"));
            continue;
        }
        let checked = property_value(&value).and_then(|value| match property_problem(&name, &value) {
            None => Ok(value),
            Some(problem) => Err(problem),
        });
        match checked {
            Ok(value) => drop(properties.insert(name, value)),
            Err(message) => reader.problem(&path, message),
        }
    }
    KafkaProperties(properties)
}

fn property_value(value: &Value) -> Result<String, String> {
    match value {
        // A PEM certificate or key has line breaks.
        Value::String(text) if !text.contains('\0') => Ok(text.clone()),
        Value::String(_) => Err("holds a NUL character".to_owned()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            Err("must be text in quotes, a number, or true or false".to_owned())
        }
    }
}

fn bootstrap_servers(value: &Value) -> Result<String, String> {
    let text = value::text(value)?;
    if text.trim().is_empty() {
        return Err("is empty; name at least one broker as host:port".to_owned());
    }
    for server in text.split(',').map(str::trim) {
        // A protocol (SSL://) may stand before the host; IPv6 addresses stand in brackets.
        let server = server.rsplit_once("://").map_or(server, |(_, server)| server);
        let (host, port) = match server.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (server, None),
        };
        let port_is_valid = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        if host.is_empty() || !port_is_valid || server.contains(char::is_whitespace) {
            return Err(format!(
                "{} is no broker; write host:port, separated by commas",
                super::problem::quoted(server)
            ));
        }
    }
    Ok(text)
}

const INPUT: &str = "topics.input";

pub(super) fn read_topics(reader: &mut Reader) -> Topics {
    let input = reader.read(INPUT, value::list(100, value::topic));
    let mut read = |path: &str| (path.to_owned(), Arc::<str>::from(reader.read(path, value::topic)));
    let [output, dead_letters, journal] = ["topics.output", "topics.dead_letters", "topics.journal"].map(&mut read);
    let further: Vec<_> = output::names(reader)
        .iter()
        .map(|name| {
            let path = format!("outputs.{name}.topic");
            let topic = reader.read(&path, value::topic).into();
            (path, topic)
        })
        .collect();
    let outputs: Vec<_> = std::iter::once(output).chain(further).collect();
    if input.is_empty() {
        reader.problem(INPUT, "is empty; name at least one topic");
    }
    let mut used: BTreeMap<Arc<str>, &str> = BTreeMap::new();
    let input: Vec<Arc<str>> = input.into_iter().map(Arc::from).collect();
    let others = outputs.iter().chain([&dead_letters, &journal]).map(|(path, topic)| (path.as_str(), topic));
    for (path, topic) in input.iter().map(|topic| (INPUT, topic)).chain(others) {
        if !reader.is_sound(&[path]) {
            continue;
        }
        match used.get(topic) {
            Some(other) => {
                let whose = if *other == path { "twice in it".to_owned() } else { format!("{other} too") };
                reader.problem(path, format!("topic {topic} is {whose}; each must be another"));
            }
            None => drop(used.insert(topic.clone(), path)),
        }
    }
    let outputs = outputs.iter().map(|(_, topic)| topic.clone()).collect();
    Topics { input, outputs, dead_letters: dead_letters.1, journal: journal.1 }
}
