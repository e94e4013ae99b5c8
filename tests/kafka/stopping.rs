//! SIGTERM, whatever hangs: exit code 0, in time.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use alert_ips::sim::{
    Latency, Mix, Plan,
    world::{Expected, Message},
};
use rstest::rstest;

use crate::{
    fleet::new_alerts,
    harness::{Broker, Config, Daemon, LONG, Node, Proxy, Service, Topics, Traffic},
};

const IDLE: Duration = Duration::from_secs(10);
const LOADED: Duration = Duration::from_secs(30);

/// Longer than anybody waits.
const NEVER: Duration = Duration::from_hours(1);

fn assert_ends_within(mut daemon: Daemon, limit: Duration) {
    let asked = Instant::now();
    daemon.terminate();
    let status = daemon.exited(limit);
    assert_eq!(status.code(), Some(0), "{status}");
    eprintln!("ended after {:?}", asked.elapsed());
}

#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn an_idle_process_ends_within_10_s(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |_| ());
    let topics = Topics::create(&kafka.bootstrap, "stop-idle");
    let mut daemon = Daemon::start(&Config::new(&topics, &service.origin).set("output.delivery", delivery));
    daemon.wait_until_ready();
    assert_ends_within(daemon, IDLE);
}

/// With the eager protocol all partitions are taken away, and the calls on the wire are waited for; the last of them ends
/// while the process does.
#[rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn a_process_that_ends_while_the_group_takes_its_partitions_away_leaves_the_group(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.latency = Latency::Fixed(Duration::from_secs(4)));
    let topics = Topics::create(&kafka.bootstrap, "stop-leaving");
    topics.seed(new_alerts(7, 50));
    let config = Config::new(&topics, &service.origin)
        .set("output.delivery", delivery)
        .limits(&["1000 per 1s"])
        .property("partition.assignment.strategy", "range");
    let mut first = Daemon::start(&config);
    first.wait_for("calls on the wire", LONG, |daemon| {
        (daemon.metric("alert_ips_calls_in_flight")? >= 1.0).then_some(())
    });
    let mut second = Daemon::start(&config.instance("another"));
    first.wait_for_log("partitions to be given up", LONG);
    first.stop();
    // Not only once the session of the first has ended.
    second.wait_for_log("partitions assigned", IDLE);
    second.stop();
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hangs {
    SignIn,
    Service,
    Brokers,
    ServiceAndBrokers,
}

#[rstest]
fn nothing_that_hangs_holds_it_longer_than_30_s(
    #[values(Hangs::SignIn, Hangs::Service, Hangs::Brokers, Hangs::ServiceAndBrokers)] hangs: Hangs,
    #[values("at-least-once", "exactly-once")] delivery: &str,
) {
    let Some(model) = Broker::shared() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut ways = [Proxy::bind(1)];
    let way = ways[0].addresses()[0];
    let node = Node::behind(model, &mut ways, &runtime);
    let topics = Topics::create(&node.bootstrap, "stop-hanging");
    topics.seed(new_alerts(5, 50));
    let service = Service::start(&[], |_| ());
    // Takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_origin = format!("http://{}", silent.local_addr().unwrap());
    let origin = if hangs == Hangs::SignIn { &silent_origin } else { &service.origin };
    let config = Config::new(&topics, origin).set("output.delivery", delivery).set("kafka.bootstrap_servers", way);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("it works, as far as it can", LONG, |daemon| match hangs {
        Hangs::SignIn => (daemon.metric("alert_ips_backlog")? >= 1.0).then_some(()),
        _ => (topics.count(&topics.output) > 0).then_some(()),
    });
    if matches!(hangs, Hangs::Service | Hangs::ServiceAndBrokers) {
        service.sim.switch(|switches| switches.latency = Latency::Fixed(NEVER));
        topics.seed(new_alerts(6, 50));
        let calls = |daemon: &Daemon| daemon.metric("alert_ips_calls_in_flight").filter(|calls| *calls >= 1.0);
        daemon.wait_for("calls on the wire", LONG, calls);
    }
    if matches!(hangs, Hangs::Brokers | Hangs::ServiceAndBrokers) {
        ways[0].set(Traffic::Held);
    }
    assert_ends_within(daemon, LOADED);
    ways[0].set(Traffic::Open);
}

/// A schema registry that is away holds what needs it, and not the stop.
#[test]
fn a_stop_does_not_wait_for_the_schema_registry() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "registry-away");
    let payload = Some(b"\0\0\0\0\x07\x02a".to_vec());
    topics.seed_in(0, &[Message { key: None, payload, shape: "avro", expected: Expected::default() }]);
    let config = Config::new(&topics, &service.origin).set("input.schema_registry.url", "http://127.0.0.1:9");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log("the schema registry http://127.0.0.1:9/ can't be asked", LONG);
    daemon.terminate();
    let status = daemon.exited(Duration::from_secs(15));
    assert_eq!(status.code(), Some(0), "{}", daemon.log());
    assert_eq!((topics.uncommitted(), topics.read(&topics.dead_letters).len()), (1, 0), "it is read again");
}
