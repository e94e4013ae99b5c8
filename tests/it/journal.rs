//! `alert-ips journal` as its users run it, on the embedded cluster: a journal written by two instances.

use std::{process::Stdio, sync::Arc, time::Duration};

use alert_ips::clock::Clock;
use alert_ips::domain::{
    alert::{AlertId, Severity},
    budget::Budget,
    journal::{Answer, Body, Claim, Entry, EntryId, Freeze, Reached, WriterId, read_message, write_message},
    outcome::{Outcome, Status},
    related_ips::RelatedIps,
    terms::Terms,
    time::JournalTime,
};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    message::Message as _,
    mocking::MockCluster,
    producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _},
    types::RDKafkaRespErr,
};
use rstest::rstest;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

/// Far longer than anything takes; reached only by a failure.
const LONG: Duration = Duration::from_mins(1);
const TOPIC: &str = "defender.alert-ips.journal";
const KEY: &str = "11111111-2222-3333-4444-555555555555/66666666-7777-8888-9999-000000000000";

/// A cluster with a journal, a configuration, and two instances that write.
struct Journal {
    cluster: MockCluster<'static, DefaultProducerContext>,
    producer: BaseProducer,
    folder: tempfile::TempDir,
    numbers: [u64; 2],
    /// What was written, as it is replayed.
    budget: Budget,
    messages: i64,
    /// How long ago it was written.
    ago: Duration,
}

impl Journal {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, 1, 1).unwrap();
        let producer = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (tenant, client) = KEY.split_once('/').unwrap();
        // In upper case: the key is in lower case all the same. There is no secret, for none is needed.
        let config = format!(
            "[kafka]\nbootstrap_servers = \"{}\"\n[instance]\nname = \"desk\"\n[accounts.contoso]\ntenant_id = \"{tenant}\"\n\
             client_id = \"{}\"\nclient_secret_file = \"./missing\"\n",
            cluster.bootstrap_servers(),
            client.to_uppercase()
        );
        std::fs::write(folder.path().join("alert-ips.toml"), config).unwrap();
        Self { cluster, producer, folder, numbers: [0, 0], budget: Budget::default(), messages: 0, ago: Duration::ZERO }
    }

    fn write(&mut self, host: usize, body: Body) -> EntryId {
        self.numbers[host] += 1;
        let id = EntryId { writer: WriterId(host as u64 + 1), number: self.numbers[host] };
        let entry = Entry { id, instance: Arc::from(format!("host-{}", host + 1)), body };
        let at = JournalTime::from_origin(Duration::from_millis(self.now().unsigned_abs()));
        self.budget.apply(at, &entry);
        self.put(&write_message(&[entry]));
        id
    }

    /// Milliseconds since 1970.
    fn now(&self) -> i64 {
        (Clock::machine().wall() - self.ago).as_millisecond()
    }

    fn put(&mut self, message: &[u8]) {
        self.producer.send(BaseRecord::to(TOPIC).key(KEY).payload(message).timestamp(self.now())).unwrap();
        self.producer.flush(LONG).unwrap();
        self.messages += 1;
    }

    fn terms(&mut self, host: usize) {
        let terms = Terms {
            limits: ["100 per 1m", "1500 per 1h"].map(|text| text.parse().unwrap()).into(),
            share: 1.0,
            reserve: 0.01,
            max_in_flight: 8,
            claim_ttl: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            skew: Duration::ZERO,
        };
        self.write(host, Body::Terms(terms));
    }

    fn asked(&mut self, host: usize, about: &str, status: u16, outcome: Option<Status>) {
        let alert = AlertId::parse(about).unwrap();
        let claim = Claim { alert: alert.clone(), severity: Severity::High, reserved: true, highs_wait: false };
        let claim = self.write(host, Body::Claim(claim));
        let retrieved_at = Clock::machine().wall();
        let outcome = outcome.map(|status| Outcome { status, ips: RelatedIps::default(), retrieved_at });
        let (reached, status) = (Reached::Complete, Some(status));
        self.write(host, Body::Answer(Answer { claim, alert, reached, status, outcome }));
    }

    fn freeze(&mut self, host: usize) {
        self.write(host, Body::Freeze(Freeze { lasts: Duration::from_hours(1), why: "429".into() }));
    }

    /// All that was written so far, for a checkpoint now or later.
    fn checkpoint(&self) -> Body {
        Body::Checkpoint(Box::new(self.budget.checkpoint(Some(self.messages - 1))))
    }

    /// Two instances, three calls, one freeze.
    fn busy() -> Self {
        let mut journal = Self::new();
        journal.terms(0);
        journal.terms(1);
        journal.asked(0, "da1_1", 404, None);
        let checkpoint = journal.checkpoint();
        journal.write(0, checkpoint);
        journal.asked(1, "da2_2", 200, Some(Status::Found));
        journal.freeze(1);
        journal
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alert-ips"));
        command.arg("journal").args(arguments).arg("--config").arg(self.folder.path().join("alert-ips.toml"));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Exit code, stdout and stderr.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = timeout(LONG, self.command(arguments).output()).await.expect("it ends").unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

fn lines(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn the_journal_is_told_call_by_call_and_as_a_whole() {
    let journal = Journal::busy();
    let (code, out, err) = journal.run(&["--json"]).await;
    assert_eq!(code, 0, "{err}");
    let lines = lines(&out);
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["call", "call", "freeze", "summary"]);
    assert_eq!((&lines[0]["instance"], &lines[0]["result"]), (&"host-1".into(), &"not_yet".into()));
    assert_eq!((&lines[1]["alert_id"], &lines[1]["result"]), (&"da2_2".into(), &"found".into()));
    let summary = &lines[3];
    assert_eq!((&summary["calls"], &summary["checkpoints"]), (&2.into(), &1.into()));
    assert_eq!(summary["limits"][0]["fullest"], 2);
    assert_eq!(summary["limits"][1]["taken"], 2);
    assert!(summary["frozen_until"].is_string(), "{summary}");
    // The embedded cluster tells no settings.
    assert!(err.contains("warning: defender.alert-ips.journal: the broker does not tell"), "{err}");
}

#[tokio::test]
async fn a_call_on_a_claim_that_the_journal_refuses_is_told_as_a_divergence() {
    let mut journal = Journal::busy();
    // In the freeze.
    journal.asked(0, "da1_1", 200, Some(Status::Found));
    let (code, out, err) = journal.run(&["--json"]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(lines(&out).pop().unwrap()["divergent_calls"], 1, "{out}");
}

/// The question before it is known only where it was read.
#[rstest]
#[case::from_the_checkpoint(true, "10m", "first")]
#[case::from_an_entry_before_the_checkpoint_that_is_not_in_it(false, "10m", "after_404")]
#[case::from_the_beginning(true, "4h", "after_404")]
#[tokio::test]
async fn the_journal_is_read_from_the_newest_checkpoint_that_is_old_enough(
    #[case] knows_of_the_call: bool,
    #[case] since: &str,
    #[case] why: &str,
) {
    let mut journal = Journal::new();
    journal.ago = Duration::from_hours(3);
    journal.terms(0);
    let early = journal.checkpoint();
    journal.asked(0, "da1_1", 404, None);
    let late = journal.checkpoint();
    journal.write(0, if knows_of_the_call { late } else { early });
    journal.ago = Duration::ZERO;
    journal.terms(0);
    journal.asked(0, "da1_1", 200, Some(Status::Found));
    let too_new = journal.checkpoint();
    journal.write(0, too_new);
    let (code, out, err) = journal.run(&["--json", "--since", since]).await;
    assert_eq!(code, 0, "{err}");
    let lines = lines(&out);
    let [.., call, summary] = &lines[..] else { panic!("{out}") };
    assert_eq!((&call["why"], &call["result"]), (&why.into(), &"found".into()), "{out}");
    assert_eq!((&summary["divergent_calls"], &summary["in_flight"]), (&0.into(), &0.into()), "{out}");
}

#[tokio::test]
async fn messages_that_cannot_be_read_are_counted_and_a_newer_version_is_told() {
    let mut journal = Journal::busy();
    journal.put(b"no message");
    journal.put(br#"{"v":9}"#);
    let (code, out, err) = journal.run(&[]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("NOTE             2 messages can't be read; the first,"), "{out}");
    assert!(out.contains("version 9") && out.contains("update this alert-ips"), "{out}");
}

#[tokio::test]
async fn who_follows_is_told_each_call_as_it_ends_until_asked_to_stop() {
    let mut journal = Journal::busy();
    let mut follower =
        journal.command(&["--follow", "--json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = timeout(LONG, out.next_line()).await.expect("a line").unwrap().expect("it goes on");
        serde_json::from_str::<Value>(&line).unwrap()
    };
    while next().await["kind"] != "summary" {}
    journal.write(0, Body::Freeze(Freeze { lasts: Duration::ZERO, why: "over".into() }));
    let freeze = next().await;
    assert_eq!((&freeze["kind"], &freeze["lifts"]), (&"freeze".into(), &true.into()));
    journal.asked(0, "da1_1", 200, Some(Status::Found));
    let call = next().await;
    assert_eq!((&call["why"], &call["result"]), (&"after_404".into(), &"found".into()));
    let pid = rustix::process::Pid::from_raw(i32::try_from(follower.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = timeout(LONG, follower.wait()).await.expect("it stops").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn who_follows_ends_when_nobody_reads_it_any_more() {
    let mut journal = Journal::busy();
    let mut follower = journal.command(&["--follow"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut out = follower.stdout.take().unwrap();
    let mut some = [0; 16];
    timeout(LONG, out.read_exact(&mut some)).await.expect("it tells something").unwrap();
    drop(out);
    journal.asked(0, "da1_1", 200, Some(Status::Found));
    let status = timeout(LONG, follower.wait()).await.expect("it stops").unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn a_journal_that_is_missing_or_out_of_reach_is_an_error_that_says_what_to_do() {
    let journal = Journal::new();
    journal.cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    let (code, out, err) = journal.run(&[]).await;
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("does not exist; create it with `alert-ips topics --create`"), "{err}");

    journal.cluster.topic_error(TOPIC, RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let (code, _, err) = journal.run(&[]).await;
    assert_eq!(code, 78, "{err}");

    journal.cluster.broker_down(1).unwrap();
    let (code, _, err) = journal.run(&[]).await;
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("kafka.bootstrap_servers"), "{err}");
}

#[tokio::test]
async fn an_account_or_a_time_that_makes_no_sense_is_a_wrong_command_line() {
    let journal = Journal::new();
    for (arguments, words) in [
        (["--account", "other"], "configured: contoso"),
        (["--since", "yesterday"], "2026-11-24T00:00:00Z"),
        (["--since", "2999-01-01T00:00:00Z"], "no time in the past"),
        (["init", "--account=contoso"], "--assume-unspent"),
    ] {
        let (code, _, err) = journal.run(&arguments).await;
        assert_eq!(code, 64, "{err}");
        assert!(err.contains(words), "{err}");
    }
}

#[tokio::test]
async fn an_operators_word_ends_the_freeze_and_is_in_the_journal_as_such() {
    let journal = Journal::busy();
    let (code, out, err) = journal.run(&["init", "--assume-unspent"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("account contoso") && out.contains("ended: the pause until"), "{out}");
    assert!(out.contains("(host-2: 429)"), "{out}");

    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", journal.cluster.bootstrap_servers())
        .set("group.id", "test")
        .create()
        .unwrap();
    let mut wanted = rdkafka::TopicPartitionList::new();
    wanted.add_partition_offset(TOPIC, 0, rdkafka::Offset::Offset(journal.messages)).unwrap();
    consumer.assign(&wanted).unwrap();
    let message = consumer.poll(LONG).unwrap().unwrap();
    assert_eq!(message.key(), Some(KEY.as_bytes()));
    let [Entry { id, instance, body: Body::Freeze(freeze) }] = &read_message(message.payload().unwrap()).unwrap()[..]
    else {
        panic!("not one freeze")
    };
    assert_eq!((&**instance, id.number, freeze.lasts), ("desk", 1, Duration::ZERO));
    assert_eq!(freeze.why, "desk: an operator says that nothing was spent");

    let (_, out, _) = journal.run(&["--json"]).await;
    assert!(lines(&out).pop().unwrap()["frozen_until"].is_null(), "{out}");
}
