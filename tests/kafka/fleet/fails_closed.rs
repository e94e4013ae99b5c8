//! Where the journal can't be trusted there are no calls, the words say what to do, and it goes on by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use alert_ips::sim::{Mix, Plan};
use rstest::rstest;

use super::{RECOVERY, calls, config, service};
use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics, eventually};

/// How long the calls claimed before a trouble may go on after it is known.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// After this, nothing that was claimed under `LIMITS` holds a slot: the longest window, a claim's life, a call, and margins.
const LONGEST_WINDOW: Duration = Duration::from_secs(35);

/// What an instance says of a journal that was lost.
const UNPROVEN: &str = "although this group has worked before: it can't prove that nothing was called";

fn answering() -> Service {
    service(|settings| settings.plan = Plan::new(7, Mix::ALL_FOUND))
}

/// Alerts wait, more than are ever answered here.
fn topics_with_alerts(kafka: &Broker, test: &str) -> Topics {
    let topics = Topics::create(&kafka.bootstrap, test);
    topics.seed_many(5_000, Duration::ZERO);
    topics
}

fn calls_go_on(daemon: &mut Daemon, service: &Service, limit: Duration) -> Duration {
    let (begun, before) = (Instant::now(), calls(service));
    daemon.wait_for("calls go on", limit, |_| (calls(service) >= before + 5).then_some(()));
    eprintln!("calls went on after {:.1} s", begun.elapsed().as_secs_f64());
    begun.elapsed()
}

/// Although the input has been read for a while, and where reading began is committed.
fn assert_is_a_first_start(daemon: &Daemon) {
    assert!(!daemon.log().contains(UNPROVEN), "with the service's own limits there would be no call for an hour");
}

fn assert_no_calls(service: &Service, lasts: Duration) {
    let before = calls(service);
    thread::sleep(lasts);
    assert_eq!(calls(service), before, "calls without a journal");
}

#[test]
fn a_journal_that_is_missing_is_waited_for() {
    let Some(kafka) = Broker::shared() else { return };
    let service = answering();
    let topics = topics_with_alerts(kafka, "no-journal");
    topics.delete(&topics.journal);
    let mut daemon = Daemon::start(&config(&topics, &service));
    let words = daemon.wait_for_words("alert-ips topics --create");
    assert!(words.contains(&topics.journal), "{words}");
    assert_no_calls(&service, Duration::from_secs(5));
    assert_eq!(calls(&service), 0);

    topics.make(&topics.journal, &[("message.timestamp.type", "LogAppendTime")]);
    calls_go_on(&mut daemon, &service, RECOVERY);
    assert_is_a_first_start(&daemon);
    daemon.wait_until_ready();
    daemon.stop();
    service.assert_no_violation();
}

#[rstest]
#[case::compacted(("cleanup.policy", "compact"), ("cleanup.policy", "delete"), "set it to delete")]
#[case::too_short(("retention.ms", "60000"), ("retention.ms", "604800000"), "set it to at least")]
fn a_journal_with_settings_that_forget_calls_is_not_used_until_they_are_mended(
    #[case] wrong: (&str, &str),
    #[case] right: (&str, &str),
    #[case] words: &str,
) {
    const STAMPED: (&str, &str) = ("message.timestamp.type", "LogAppendTime");
    let Some(kafka) = Broker::shared() else { return };
    let service = answering();
    let topics = topics_with_alerts(kafka, "settings");
    topics.delete(&topics.journal);
    topics.make(&topics.journal, &[STAMPED, wrong]);
    let mut daemon = Daemon::start(&config(&topics, &service));
    daemon.wait_for_words(words);
    assert_no_calls(&service, Duration::from_secs(5));
    assert_eq!(calls(&service), 0);

    topics.configure(&topics.journal, &[STAMPED, right]);
    calls_go_on(&mut daemon, &service, RECOVERY);
    assert_is_a_first_start(&daemon);
    daemon.wait_until_ready();
    daemon.stop();
    service.assert_no_violation();
}

#[test]
fn without_a_broker_there_are_no_calls_and_with_it_they_go_on() {
    let Some(kafka) = Broker::own(3) else { return };
    let service = answering();
    let topics = topics_with_alerts(&kafka, "broker-away");
    let mut daemons = ["one", "two"].map(|name| Daemon::start(&config(&topics, &service).instance(name)));
    calls_go_on(&mut daemons[0], &service, LONG);

    kafka.stop();
    thread::sleep(LAST_CALLS);
    assert_no_calls(&service, Duration::from_secs(15));
    for daemon in &mut daemons {
        daemon.wait_for("the account says why", LONG, |daemon| {
            let (_, body) = daemon.page("/readyz?verbose")?;
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let why = json["accounts"][0]["paused"]["why"].as_str()?.to_owned();
            why.contains("kafka").then(|| eprintln!("{why}"))
        });
    }
    kafka.start();
    calls_go_on(&mut daemons[0], &service, RECOVERY);
    daemons.iter_mut().for_each(Daemon::wait_until_ready);
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();
}

#[test]
fn a_journal_recreated_under_running_instances_is_told_what_they_know() {
    let Some(kafka) = Broker::shared() else { return };
    let service = answering();
    let topics = topics_with_alerts(kafka, "recreated");
    let mut daemons = ["one", "two"].map(|name| Daemon::start(&config(&topics, &service).instance(name)));
    for _ in 0..2 {
        daemons[0].wait_for("a window is nearly full", LONG, |_| (service.sim.windows()[1].calls >= 45).then_some(()));
        topics.recreate_journal();
        // What is on its way ends, everyone notices, and what they know is in the new journal before anything else.
        let before = calls(&service);
        eventually("someone carries over what it knows", RECOVERY, || {
            (topics.journal_entries("checkpoint") >= 1).then_some(())
        });
        eprintln!("{} calls meanwhile", calls(&service) - before);
        calls_go_on(&mut daemons[0], &service, RECOVERY);
    }
    for daemon in &daemons {
        assert!(daemon.log().contains("what this instance knows of the calls is written into it"));
    }
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();
}

/// A fleet that has worked and stands still, and whose journal is another one now.
fn stopped_fleet_with_a_new_journal(kafka: &Broker, test: &str) -> (Service, Topics, Config) {
    let service = answering();
    let topics = topics_with_alerts(kafka, test);
    let config = config(&topics, &service);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("settled records", LONG, |_| (calls(&service) >= 30 && topics.uncommitted() < 5_000).then_some(()));
    daemon.stop();
    topics.recreate_journal();
    (service, topics, config)
}

#[test]
fn a_journal_recreated_while_all_stood_still_proves_nothing_so_the_longest_window_counts_as_spent() {
    let Some(kafka) = Broker::shared() else { return };
    let (service, _topics, config) = stopped_fleet_with_a_new_journal(kafka, "unproven");
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("it says so", LONG, |daemon| daemon.log().contains(UNPROVEN).then_some(()));
    let begun = Instant::now();
    daemon.wait_for("/readyz tells it, too", LONG, |daemon| {
        daemon.page("/readyz?verbose").filter(|(_, body)| body.contains("journal init --assume-unspent"))
    });
    assert_no_calls(&service, LONGEST_WINDOW.saturating_sub(begun.elapsed() + LAST_CALLS));
    calls_go_on(&mut daemon, &service, RECOVERY);
    daemon.stop();
    service.assert_no_violation();
}

#[test]
fn an_operator_who_knows_that_nothing_was_spent_need_not_wait() {
    let Some(kafka) = Broker::shared() else { return };
    let (service, _topics, config) = stopped_fleet_with_a_new_journal(kafka, "assume-unspent");
    thread::sleep(LONGEST_WINDOW / 2);
    let said = config.run(&["journal", "init", "--assume-unspent"]);
    assert!(said.status.success(), "{said:?}");
    let mut daemon = Daemon::start(&config);
    let waited = calls_go_on(&mut daemon, &service, RECOVERY);
    assert!(waited < LONGEST_WINDOW / 2, "it waited for {waited:?}");
    daemon.stop();
    service.assert_no_violation();
}
