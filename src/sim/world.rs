//! The simulated world: an endless stream of messages as they come out of a Kafka topic of alerts.
//!
//! Mostly alerts in every shape, severities mixed; storms of minor ones; earlier alerts again; and now and then what
//! should never be there. Each message tells what must become of it, so that a checker can account for every one.

use std::{ops::Range, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::{Value, json};

use super::shapes::{self, Facts};
use crate::domain::{
    alert::Severity,
    outcome::{Reason, Skip},
};

/// .NET ticks (100 ns since 0001-01-01) at the Unix epoch.
const TICKS_AT_UNIX_EPOCH: i128 = 621_355_968_000_000_000;

/// Earlier alerts that may come again.
const REMEMBERED: usize = 200;

/// The tenant of every simulated alert, unless [`World::tenant`] says otherwise.
pub const TENANT: &str = "12f988bf-1234-5678-91ab-2d7cd011db47";

/// One message, ready for Kafka, and what must become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// What kind of message this is, in words.
    pub shape: &'static str,
    pub expected: Expected,
}

/// What a message holds. Never nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The distinct alerts in the order of their first items: one output record each.
    pub alerts: Vec<ExpectedAlert>,
    /// One for each item that is skipped.
    pub skips: Vec<Skip>,
    /// The message goes to the dead letters for this reason, whatever else it holds.
    pub rejection: Option<Reason>,
}

/// One alert of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedAlert {
    pub id: String,
    /// Where the shape tells it; else `Unspecified`.
    pub severity: Severity,
    /// Older than any retention: answered without a call.
    pub expired: bool,
}

/// How often, in thousandths of the messages, something else than a new alert comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// A message that holds something unusable, or nothing.
    pub odd: u32,
    /// An earlier alert again, as it was or updated.
    pub repeat: u32,
    /// The begin of a storm.
    pub storm: u32,
}

impl Shares {
    pub const REALISTIC: Self = Self { odd: 20, repeat: 100, storm: 2 };
    /// Nothing but new alerts.
    pub const ONLY_NEW: Self = Self { odd: 0, repeat: 0, storm: 0 };
}

/// The source of messages: one seed, one stream.
#[derive(Clone, Debug)]
pub struct World {
    rng: SmallRng,
    now: Timestamp,
    tenant: String,
    shares: Shares,
    /// Messages left of the storm that is going on.
    storm_left: u32,
    serial: usize,
    remembered: Vec<Facts>,
}

impl World {
    /// A world in which it is `now`: its new alerts are at most two minutes old.
    pub fn new(seed: u64, now: Timestamp) -> Self {
        Self {
            rng: SmallRng::seed_from_u64(seed),
            now,
            tenant: TENANT.to_owned(),
            shares: Shares::REALISTIC,
            storm_left: 0,
            serial: 0,
            remembered: Vec::new(),
        }
    }

    pub fn shares(mut self, shares: Shares) -> Self {
        self.shares = shares;
        self
    }

    /// The tenant that the alerts name, in the shapes that name one.
    pub fn tenant(mut self, tenant_id: &str) -> Self {
        tenant_id.clone_into(&mut self.tenant);
        self
    }

    /// Makes the next `messages` a storm of minor alerts.
    pub fn start_storm(&mut self, messages: u32) {
        self.storm_left = messages;
    }

    /// A message with one new alert of this severity, as the service's alert resource.
    pub fn alert(&mut self, severity: Severity) -> Message {
        let facts = self.new_alert(severity);
        message("alert", &facts.id, &shapes::resource(&facts), with(vec![known(&facts)]))
    }

    /// The next message of the stream.
    pub fn next_message(&mut self) -> Message {
        if self.storm_left > 0 {
            self.storm_left -= 1;
            let severity = if self.rng.random() { Severity::Low } else { Severity::Informational };
            return self.alert(severity);
        }
        let mut at = self.rng.random_range(0..1_000);
        let mut is_in = |share: u32| {
            let is_in = at < share;
            at = at.saturating_sub(share);
            is_in
        };
        if is_in(self.shares.odd) {
            self.odd()
        } else if is_in(self.shares.repeat) && !self.remembered.is_empty() {
            self.repeat()
        } else if is_in(self.shares.storm) {
            self.start_storm(100);
            self.next_message()
        } else {
            self.usual()
        }
    }

    fn usual(&mut self) -> Message {
        match self.rng.random_range(0..100) {
            0..=44 => {
                let severity = self.severity();
                self.alert(severity)
            }
            45..=54 => {
                let facts = self.next_alert();
                message("alert of 2019", &facts.id, &shapes::resource_2019(&facts), with(vec![known(&facts)]))
            }
            55..=59 => {
                let alerts = self.several(2..6);
                let expected = with(alerts.iter().map(known).collect());
                message("list page", "page", &shapes::page(&alerts), expected)
            }
            60..=64 => {
                let alerts = self.several(2..6);
                let expected = with(alerts.iter().map(known).collect());
                message("bare array", "array", &alerts.iter().map(shapes::resource).collect(), expected)
            }
            65..=79 => {
                let facts = self.next_alert();
                let name = ["id", "alertId", "AlertId"][self.rng.random_range(0..3)];
                message("bare id", &facts.id, &json!({ name: facts.id }), with(vec![untold(&facts)]))
            }
            80..=84 => {
                let facts = self.next_alert();
                message("streaming row", &facts.id, &shapes::info_row(&facts), with(vec![known(&facts)]))
            }
            _ => self.envelope(),
        }
    }

    /// Rows of one or two alerts in one message; each alert has several rows and is still one alert.
    fn envelope(&mut self) -> Message {
        let mut records = Vec::new();
        let mut expected = Expected::default();
        for facts in self.several(1..3) {
            // What comes second of an alert's rows does not come first: the info row tells the severity.
            records.push(shapes::info_row(&facts));
            records.push(shapes::evidence_row(&facts, "Ip"));
            if self.rng.random() {
                records.push(shapes::evidence_row(&facts, "Process"));
            }
            expected.alerts.push(known(&facts));
            if self.rng.random_ratio(1, 4) {
                records.push(shapes::other_table_row(&facts));
                expected.skips.push(Skip::OtherTable);
            }
        }
        message("event hubs envelope", "envelope", &json!({ "records": records }), expected)
    }

    /// An earlier alert: redelivered by a poller, updated since, or seen on another way.
    fn repeat(&mut self) -> Message {
        let at = self.rng.random_range(0..self.remembered.len());
        let mut facts = self.remembered[at].clone();
        match self.rng.random_range(0..3) {
            0 => message("repeat", &facts.id, &shapes::resource(&facts), with(vec![known(&facts)])),
            1 => {
                facts.updated = self.now.max(facts.updated);
                self.remembered[at].updated = facts.updated;
                message("update", &facts.id, &shapes::resource(&facts), with(vec![known(&facts)]))
            }
            _ => {
                let row = shapes::evidence_row(&facts, "Ip");
                message("late evidence row", &facts.id, &row, with(vec![untold(&facts)]))
            }
        }
    }

    /// What should not be there: each is a dead letter, a skip or an expired alert, and stops nothing.
    fn odd(&mut self) -> Message {
        let facts = self.next_alert();
        let rejected = |reason| Expected { rejection: Some(reason), ..Expected::default() };
        let skipped = |skip| Expected { skips: vec![skip], ..Expected::default() };
        let whole = shapes::resource(&facts).to_string();
        let bytes = |shape, payload: &[u8], expected| Message {
            key: Some(facts.id.clone().into_bytes()),
            payload: Some(payload.to_vec()),
            shape,
            expected,
        };
        match self.rng.random_range(0..12) {
            0 => bytes("not JSON", b"<alert severity=\"high\"/>", rejected(Reason::NotJson)),
            1 => bytes("cut off", &whole.as_bytes()[..whole.len() / 2], rejected(Reason::NotJson)),
            2 => bytes("not UTF-8", b"{\"id\":\"da\xff\xfe\"}", rejected(Reason::NotJson)),
            3 => {
                const HOSTILE: [&str; 6] = ["../admin", "..%2fadmin", "a/b", "@evil", "a\r\nHost: evil", "a?b#c"];
                let id = HOSTILE[self.rng.random_range(0..HOSTILE.len())];
                message("hostile id", "key", &json!({ "id": id }), rejected(Reason::InvalidAlertId))
            }
            4 => message("id of another type", "key", &json!({ "id": 17 }), rejected(Reason::InvalidAlertId)),
            5 => message("unknown shape", "key", &json!({ "hello": "world" }), rejected(Reason::UnknownShape)),
            6 => {
                let items = json!([{ "id": facts.id }, { "id": "../admin" }]);
                let expected = Expected { alerts: vec![untold(&facts)], ..rejected(Reason::InvalidAlertId) };
                message("array with a hostile id", "key", &items, expected)
            }
            7 => Message {
                key: Some(facts.id.into_bytes()),
                payload: None,
                shape: "tombstone",
                expected: skipped(Skip::Tombstone),
            },
            8 => message("empty page", "page", &json!({ "value": [] }), skipped(Skip::EmptyPage)),
            9 => {
                let row = shapes::other_table_row(&facts);
                message("row of another table", "key", &row, skipped(Skip::OtherTable))
            }
            10 => {
                let mut row = shapes::info_row(&facts);
                row["properties"]["ServiceSource"] = json!("Microsoft Defender for Office 365");
                message("alert of another product", "key", &row, skipped(Skip::OtherProduct))
            }
            _ => {
                let age = SignedDuration::from_hours(24 * self.rng.random_range(200..400));
                let created = self.now.saturating_sub(age).unwrap_or(self.now);
                let old = Facts { id: self.id(created), created, updated: created, ..facts };
                let expected = with(vec![ExpectedAlert { expired: true, ..known(&old) }]);
                message("very old alert", &old.id, &shapes::resource(&old), expected)
            }
        }
    }

    fn several(&mut self, count: Range<usize>) -> Vec<Facts> {
        let count = self.rng.random_range(count);
        (0..count).map(|_| self.next_alert()).collect()
    }

    fn next_alert(&mut self) -> Facts {
        let severity = self.severity();
        self.new_alert(severity)
    }

    fn new_alert(&mut self, severity: Severity) -> Facts {
        let age = Duration::from_millis(self.rng.random_range(1_000..120_000));
        let created = self.now.saturating_sub(age).unwrap_or(self.now);
        let facts = Facts {
            id: self.id(created),
            severity,
            created,
            updated: created,
            tenant: self.tenant.clone(),
            variant: self.serial,
        };
        if self.remembered.len() < REMEMBERED {
            self.remembered.push(facts.clone());
        } else {
            self.remembered[self.serial % REMEMBERED] = facts.clone();
        }
        facts
    }

    /// A new id in the tick form: `da<18 ticks>_<signed int32>`. The last ticks are a serial number, so no two are equal.
    fn id(&mut self, created: Timestamp) -> String {
        self.serial += 1;
        let ticks = created.as_nanosecond() / 100 + TICKS_AT_UNIX_EPOCH;
        let ticks = ticks - ticks % 1_000_000 + self.serial as i128 % 1_000_000;
        format!("da{ticks}_{}", self.rng.random::<i32>())
    }

    fn severity(&mut self) -> Severity {
        match self.rng.random_range(0..100) {
            0..=9 => Severity::High,
            10..=34 => Severity::Medium,
            35..=39 => Severity::Unspecified,
            40..=74 => Severity::Low,
            _ => Severity::Informational,
        }
    }
}

impl Iterator for World {
    type Item = Message;

    /// Never ends.
    fn next(&mut self) -> Option<Message> {
        Some(self.next_message())
    }
}

fn message(shape: &'static str, key: &str, payload: &Value, expected: Expected) -> Message {
    let payload = Some(payload.to_string().into_bytes());
    Message { key: Some(key.as_bytes().to_vec()), payload, shape, expected }
}

fn with(alerts: Vec<ExpectedAlert>) -> Expected {
    Expected { alerts, ..Expected::default() }
}

/// As expected from a shape that tells the severity.
fn known(facts: &Facts) -> ExpectedAlert {
    ExpectedAlert { id: facts.id.clone(), severity: facts.severity, expired: false }
}

/// As expected from a shape that does not.
fn untold(facts: &Facts) -> ExpectedAlert {
    ExpectedAlert { severity: Severity::Unspecified, ..known(facts) }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::domain::alert::AlertId;

    const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

    fn many() -> Vec<Message> {
        World::new(11, NOW).take(6_000).collect()
    }

    /// Every alert id anywhere in a payload, in order and once each.
    fn ids(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| ids(item, found)),
            Value::Object(members) => {
                let id = ["id", "alertId", "AlertId"].iter().find_map(|name| members.get(*name)?.as_str());
                if let Some(id) = id.filter(|id| AlertId::parse(id).is_ok() && !found.iter().any(|known| known == id)) {
                    found.push(id.to_owned());
                }
                ["records", "value", "properties"]
                    .iter()
                    .filter_map(|name| members.get(*name))
                    .for_each(|v| ids(v, found));
            }
            _ => {}
        }
    }

    #[test]
    fn one_seed_gives_one_stream() {
        let stream = |seed| World::new(seed, NOW).take(500).collect::<Vec<_>>();
        assert_eq!(stream(4), stream(4));
        assert_ne!(stream(4), stream(5));
    }

    #[test]
    fn expected_alerts_are_those_in_the_payload() {
        for message in many() {
            let Some(json) = message.payload.as_deref().and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok())
            else {
                assert!(message.expected.alerts.is_empty(), "{message:?}");
                continue;
            };
            let mut found = Vec::new();
            if message.shape != "alert of another product" {
                ids(&json, &mut found);
            }
            let expected: Vec<_> = message.expected.alerts.iter().map(|alert| alert.id.clone()).collect();
            assert_eq!(found, expected, "{}", message.shape);
        }
    }

    #[test]
    fn every_message_expects_something_and_only_bad_json_is_no_json() {
        for Message { payload, shape, expected, .. } in many() {
            assert!(
                !expected.alerts.is_empty() || !expected.skips.is_empty() || expected.rejection.is_some(),
                "{shape}"
            );
            let is_json = payload.as_deref().is_some_and(|bytes| serde_json::from_slice::<Value>(bytes).is_ok());
            assert_eq!(!is_json, payload.is_none() || expected.rejection == Some(Reason::NotJson), "{shape}");
        }
    }

    #[test]
    fn ids_tell_a_recent_creation_unless_expired() {
        for alert in many().iter().flat_map(|message| &message.expected.alerts) {
            let age = NOW.duration_since(AlertId::parse(&alert.id).unwrap().created().unwrap());
            let is_old = age > SignedDuration::from_hours(24 * 180);
            assert!(is_old == alert.expired && (is_old || age <= SignedDuration::from_secs(121)), "{}", alert.id);
        }
    }

    #[test]
    fn all_shapes_severities_and_repeats_come() {
        let mut shapes = BTreeMap::new();
        let (mut severities, mut ids, mut repeats) = (HashSet::new(), HashSet::new(), 0);
        for message in many() {
            *shapes.entry(message.shape).or_insert(0) += 1;
            for alert in message.expected.alerts {
                severities.insert(alert.severity);
                repeats += usize::from(!ids.insert(alert.id));
            }
        }
        assert_eq!((shapes.len(), severities.len()), (22, 5), "{shapes:?}");
        assert!(repeats > 300, "{repeats}");
    }

    #[test]
    fn a_storm_is_minor_and_new() {
        let mut world = World::new(2, NOW);
        world.start_storm(300);
        let alerts: Vec<_> = world.take(300).flat_map(|message| message.expected.alerts).collect();
        assert!(alerts.iter().all(|alert| matches!(alert.severity, Severity::Low | Severity::Informational)));
        assert_eq!(alerts.iter().map(|alert| &alert.id).collect::<HashSet<_>>().len(), 300);
    }
}
