//! The journal as an auditor sees it, with a plain consumer and a plain JSON parser; and as a stranger may write to it.

use alert_ips::sim::world::TENANT;
use jiff::Timestamp;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::Value;

use super::{
    CLIENT, Topics,
    topics::{ANSWER, send},
};

/// One message of the journal.
#[derive(Debug)]
pub struct JournalMessage {
    /// Whose it is: tenant and client.
    pub key: String,
    pub partition: i32,
    pub offset: i64,
    /// The broker's time.
    pub at: Timestamp,
    pub bytes: Vec<u8>,
    pub json: Value,
}

impl JournalMessage {
    /// What the entries of one kind say: `claim`, `answer`, `terms`, `freeze` or `checkpoint`.
    pub fn entries(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.json["entries"].as_array().into_iter().flatten().filter_map(move |entry| entry.get(kind))
    }

    /// Who wrote it: one life of one instance.
    pub fn writer(&self) -> &str {
        self.json["writer"].as_str().unwrap()
    }

    /// How many bytes of it are addresses, with their quotes and commas.
    pub fn address_bytes(&self) -> usize {
        let addresses =
            self.entries("answer").flat_map(|answer| answer["outcome"]["ips"].as_array().into_iter().flatten());
        addresses.map(|address| address.as_str().unwrap().len() + 3).sum()
    }
}

impl Topics {
    /// All that stands in the journal of the one account, in its order.
    pub fn read_journal(&self) -> Vec<JournalMessage> {
        let messages = self.read_journals();
        for message in &messages {
            assert_eq!(message.key, format!("{TENANT}/{CLIENT}"));
        }
        messages
    }

    /// The same of all accounts; in order within each.
    pub fn read_journals(&self) -> Vec<JournalMessage> {
        let messages = self.read(&self.journal).into_iter().map(|record| {
            let bytes = record.payload.unwrap().to_vec();
            JournalMessage {
                key: String::from_utf8(record.key.unwrap().into()).unwrap(),
                partition: record.receipt.partition.number,
                offset: record.receipt.offset,
                at: record.timestamp.unwrap(),
                json: serde_json::from_slice(&bytes).unwrap(),
                bytes,
            }
        });
        messages.collect()
    }

    /// How many entries of one kind the journal holds.
    pub fn journal_entries(&self, kind: &str) -> usize {
        self.read_journal().iter().map(|message| message.entries(kind).count()).sum()
    }

    /// Writes messages to the account's partition, as any Kafka tool may.
    pub fn append_to_journal(&self, messages: impl IntoIterator<Item = Vec<u8>>) {
        let mut config = self.client();
        // As Java's producers place a key.
        config.set("partitioner", "murmur2").set("acks", "all").set("enable.idempotence", "true");
        let producer: BaseProducer = config.set("queue.buffering.max.messages", "200000").create().unwrap();
        let key = format!("{TENANT}/{CLIENT}");
        for message in messages {
            send(&producer, BaseRecord::to(&self.journal).key(key.as_bytes()).payload(&message[..]));
        }
        producer.flush(ANSWER).unwrap();
    }

    /// The journal is deleted, and another one created.
    pub fn recreate_journal(&self) {
        self.delete(&self.journal);
        self.make(&self.journal, &[("message.timestamp.type", "LogAppendTime")]);
    }
}
