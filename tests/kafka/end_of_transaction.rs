//! The request that ends a transaction is held on its way, reaches the brokers when nobody waits for it any more, or its
//! answer is lost: readers of what is committed see each alert once all the same.

use std::{net::SocketAddr, thread, time::Duration};

use alert_ips::sim::{Latency, Mix, Plan, world::World};
use jiff::Timestamp;
use rstest::rstest;
use tokio::runtime::Runtime;

use crate::{
    exactly_once::{assert_each_is_there_once, config, published, service, wait_for_more},
    fleet::new_alerts,
    harness::{Broker, Checker, Config, Daemon, Fate, Kind, LONG, Node, Proxy, Rule, Service, Topics},
};

/// Within this time something is published again once the fault is over.
const RECOVERY: Duration = Duration::from_mins(1);

/// Longer than the program waits for the end of a transaction, and longer than the brokers let one be open.
const LONGER_THAN_A_TRANSACTION: Duration = Duration::from_secs(40);

const MESSAGES: usize = 1_200;

/// The brokers' word to a producer whose place another has taken: `INVALID_PRODUCER_EPOCH` or `PRODUCER_FENCED`.
const FENCED: [i16; 2] = [47, 90];

/// What is said where the program gives up waiting for the end of a transaction.
const UNKNOWN: &str = "kafka does not say whether a transaction was committed";

/// What is said where a request may have been sent twice.
const RESENT: &str = "may have been sent twice";
const KNOWN: &str = "the transaction's end is known";

/// A broker with two ways to it, and something to do.
struct Stage {
    ways: Vec<Proxy>,
    addresses: Vec<SocketAddr>,
    config: Config,
    checker: Checker,
    service: Service,
    // Dropped last: the topics are deleted on a broker that runs.
    _node: Node,
    _runtime: Runtime,
}

impl Stage {
    fn new(model: &Broker, name: &str, service: Service) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut ways = vec![Proxy::bind(1), Proxy::bind(1)];
        let addresses = ways.iter().map(|way| way.addresses()[0]).collect();
        let node = Node::behind(model, &mut ways, &runtime);
        let topics = Topics::create(&node.bootstrap, name);
        let config = config(&topics, &service).property("reconnect.backoff.max.ms", 500);
        let checker = Checker::new(topics, &service, Vec::new());
        Self { ways, addresses, config, checker, service, _node: node, _runtime: runtime }
    }

    /// With messages that wait.
    fn loaded(model: &Broker, name: &str) -> Self {
        let mut stage = Self::new(model, name, service());
        let seeded = stage.topics().seed(World::new(3, Timestamp::now()).take(MESSAGES).collect());
        stage.checker = stage.checker.also(&stage.service, seeded);
        stage
    }

    fn topics(&self) -> &Topics {
        self.checker.topics()
    }

    /// An instance that reaches the broker by one of the ways.
    fn start(&self, name: &str, way: usize) -> Daemon {
        Daemon::start(&self.config.clone().instance(name).set("kafka.bootstrap_servers", self.addresses[way]))
    }

    fn finish(&self, daemons: Vec<Daemon>) {
        let mut daemons = daemons;
        daemons[0].finish(self.topics());
        daemons.into_iter().for_each(Daemon::stop);
        assert_each_is_there_once(&self.checker);
    }
}

fn wait_until_met(daemon: &mut Daemon, rule: &Rule, times: usize) {
    daemon.wait_for("the request is on its way", LONG, |_| (rule.met() == times).then_some(()));
}

/// Something is published again, unless all is done.
fn assert_it_goes_on(daemon: &mut Daemon, topics: &Topics) {
    let before = published(topics);
    let goes_on = || published(topics) > before || topics.uncommitted() == 0;
    daemon.wait_for("it goes on", RECOVERY, |_| goes_on().then_some(()));
}

#[rstest]
#[case::request_held_longer_than_a_transaction_lasts(Fate::Held, 1, LONGER_THAN_A_TRANSACTION, UNKNOWN)]
#[case::request_held_for_a_while(Fate::Held, 1, Duration::from_secs(8), RESENT)]
#[case::answer_held_longer_than_a_transaction_lasts(Fate::AnswerHeld, 1, LONGER_THAN_A_TRANSACTION, UNKNOWN)]
#[case::answer_lost(Fate::AnswerLost, 1, Duration::ZERO, RESENT)]
#[case::answers_lost_three_times(Fate::AnswerLost, 3, Duration::ZERO, RESENT)]
fn each_alert_is_there_once_where_the_end_of_a_transaction_is_disturbed(
    #[case] fate: Fate,
    #[case] times: usize,
    #[case] lasts: Duration,
    #[case] words: &str,
) {
    let Some(model) = Broker::shared() else { return };
    let stage = Stage::loaded(model, "end-disturbed");
    let mut daemon = stage.start("one", 0);
    wait_for_more(&mut daemon, stage.topics(), 200);
    let rule = stage.ways[0].meet(Kind::EndTxn, fate, times);
    wait_until_met(&mut daemon, &rule, times);
    thread::sleep(lasts);
    rule.let_go();
    assert_it_goes_on(&mut daemon, stage.topics());
    daemon.wait_for_log(words, RECOVERY);
    eprintln!("{fate:?} {lasts:?}: the brokers answered {:?}", rule.answers());
    stage.finish(vec![daemon]);
}

/// The next process takes its place meanwhile, and works when the request arrives.
#[test]
fn each_alert_is_there_once_after_kill_9_while_the_end_of_a_transaction_is_held() {
    let Some(model) = Broker::shared() else { return };
    let stage = Stage::loaded(model, "end-killed");
    let mut first = stage.start("one", 0);
    wait_for_more(&mut first, stage.topics(), 200);
    let rule = stage.ways[0].meet(Kind::EndTxn, Fate::Held, 1);
    wait_until_met(&mut first, &rule, 1);
    first.kill();
    let mut second = stage.start("one", 0);
    wait_for_more(&mut second, stage.topics(), 100);
    rule.let_go();
    let answered = |_: &Daemon| rule.answers().first().copied();
    let answer = second.wait_for("the late request is answered", RECOVERY, answered);
    assert!(FENCED.contains(&answer), "{answer}");
    stage.finish(vec![second]);
}

/// Half of the partitions go to another while nobody knows whether they are settled.
#[rstest]
#[case::request_held(Fate::Held)]
#[case::answer_held(Fate::AnswerHeld)]
#[case::answers_lost(Fate::AnswerLost)]
fn each_alert_is_there_once_where_partitions_move_meanwhile(#[case] fate: Fate) {
    let Some(model) = Broker::shared() else { return };
    let stage = Stage::loaded(model, "end-moved");
    let mut first = stage.start("one", 0);
    wait_for_more(&mut first, stage.topics(), 200);
    let rule = stage.ways[0].meet(Kind::EndTxn, fate, if fate == Fate::AnswerLost { 20 } else { 1 });
    wait_until_met(&mut first, &rule, 1);
    let mut second = stage.start("another", 1);
    thread::sleep(LONGER_THAN_A_TRANSACTION);
    rule.let_go();
    assert_it_goes_on(&mut second, stage.topics());
    stage.finish(vec![first, second]);
}

/// The connection breaks after the request was sent, so another is sent, and that is answered. The first one comes to the
/// brokers while the next transaction is open, and must not end that.
#[test]
fn a_late_copy_of_the_request_does_not_end_the_next_transaction() {
    let Some(model) = Broker::shared() else { return };
    let stage = Stage::loaded(model, "end-copied");
    let mut first = stage.start("one", 0);
    wait_for_more(&mut first, stage.topics(), 200);
    let end = stage.ways[0].meet(Kind::EndTxn, Fate::Orphaned, 1);
    wait_until_met(&mut first, &end, 1);
    // The next one has its outputs by then, and not what they settle.
    let offsets = stage.ways[0].meet(Kind::AddOffsetsToTxn, Fate::Held, 1);
    wait_until_met(&mut first, &offsets, 1);
    end.let_go();
    let answer = first.wait_for("the late request is answered", RECOVERY, |_| end.answers().first().copied());
    first.kill();
    drop(offsets);
    stage.finish(vec![stage.start("one", 0)]);
    assert!(FENCED.contains(&answer), "{answer}");
}

/// The same with the request that has a transaction's offsets: they must not take the place of the next one's, or what that
/// one wrote is written again after a restart.
#[test]
fn a_late_copy_of_the_offsets_does_not_replace_those_of_the_next_transaction() {
    let Some(model) = Broker::shared() else { return };
    let stage = Stage::loaded(model, "offsets-copied");
    let mut first = stage.start("one", 0);
    wait_for_more(&mut first, stage.topics(), 200);
    let copied = stage.ways[0].meet(Kind::TxnOffsetCommit, Fate::Orphaned, 1);
    wait_until_met(&mut first, &copied, 1);
    // The next one is under way then, and has its own offsets when it is about to end.
    let next = stage.ways[0].meet(Kind::AddOffsetsToTxn, Fate::Held, 1);
    wait_until_met(&mut first, &next, 1);
    let end = stage.ways[0].meet(Kind::EndTxn, Fate::Held, 1);
    next.let_go();
    wait_until_met(&mut first, &end, 1);
    copied.let_go();
    let answer = first.wait_for("the late offsets are answered", RECOVERY, |_| copied.answers().first().copied());
    // It has ended, and nothing more is committed, when yet another asks for this.
    let after = stage.ways[0].meet(Kind::AddOffsetsToTxn, Fate::Held, 1);
    end.let_go();
    wait_until_met(&mut first, &after, 1);
    first.kill();
    drop(after);
    stage.finish(vec![stage.start("one", 0)]);
    assert!(FENCED.contains(&answer), "{answer}");
}

/// Of the partitions in a transaction whose end nobody knows, one goes to another instance, which settles the same there.
/// That says nothing about the others.
#[test]
fn what_another_has_committed_since_says_nothing_about_the_rest_of_a_transaction() {
    let Some(model) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Fixed(Duration::from_millis(5));
    });
    let mut stage = Stage::new(model, "end-mixed", service);
    let mut first = stage.start("one", 0);
    first.wait_until_ready();
    // What is decided meanwhile shares the next one.
    let end = stage.ways[0].meet(Kind::EndTxn, Fate::Held, 1);
    let seeded = stage.checker.topics().seed(new_alerts(41, 5));
    stage.checker = stage.checker.also(&stage.service, seeded);
    wait_until_met(&mut first, &end, 1);
    let seeded = stage.checker.topics().seed(new_alerts(43, 60));
    stage.checker = stage.checker.also(&stage.service, seeded);
    let calls = stage.checker.expected_records() as u64;
    first.wait_for("all answers", LONG, |_| (stage.service.sim.counts().calls >= calls).then_some(()));
    let next_end = stage.ways[0].meet(Kind::EndTxn, Fate::Held, 1);
    end.let_go();
    wait_until_met(&mut first, &next_end, 1);
    let producer = stage.ways[0].meet(Kind::InitProducerId, Fate::Held, 100);

    let before = published(stage.topics());
    let mut second = stage.start("another", 1);
    second.wait_for("it settles a partition", LONG, |_| (published(stage.topics()) > before).then_some(()));
    // And commits it.
    thread::sleep(Duration::from_secs(3));
    producer.let_go();
    first.wait_for_log(KNOWN, LONG);
    next_end.let_go();
    // More comes, and is committed behind what was lost, if it was.
    let seeded = stage.checker.topics().seed(new_alerts(47, 60));
    stage.checker = stage.checker.also(&stage.service, seeded);
    stage.finish(vec![first, second]);
}
