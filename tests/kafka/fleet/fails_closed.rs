//! Where the journal can't be trusted there are no calls, the words say what to do, and it goes on by itself.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use alert_ips::sim::{Mix, Plan, world::TENANT};
use rstest::rstest;

use super::{RECOVERY, alert_of, calls, config, high_alerts, service};
use crate::harness::{Broker, Config, Daemon, LONG, Node, Service, Topics, eventually};

/// What every journal's topic has.
const STAMPED: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

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

/// Two at work on a topic full of alerts.
fn two_at_work(topics: &Topics, service: &Service) -> [Daemon; 2] {
    topics.seed_many(5_000, Duration::ZERO);
    let mut daemons = ["one", "two"].map(|name| Daemon::start(&config(topics, service).instance(name)));
    calls_go_on(&mut daemons[0], service, LONG);
    daemons
}

/// Each instance says so, with all these words, and nobody calls.
fn assert_calls_stop(daemons: &mut [Daemon], service: &Service, words: &[&str]) {
    let begun = Instant::now();
    for daemon in daemons {
        let said = daemon.wait_for_words(words[0]);
        eprintln!("after {:.1} s: {said}", begun.elapsed().as_secs_f64());
        for words in words {
            assert!(said.contains(words), "\"{words}\" is missing: {said}");
        }
    }
    thread::sleep(LAST_CALLS);
    assert_no_calls(service, Duration::from_secs(8));
}

/// And every call that was made was written down before.
fn all_works_again(mut daemons: [Daemon; 2], service: &Service, topics: &Topics) {
    calls_go_on(&mut daemons[0], service, RECOVERY);
    let begun = Instant::now();
    for daemon in &mut daemons {
        daemon.wait_until_ready();
        eprintln!("and it is ready {:.1} s after that", begun.elapsed().as_secs_f64());
    }
    assert!(begun.elapsed() < RECOVERY, "one of them took {:?}", begun.elapsed());
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();
    let journal = topics.read_journal();
    let claims = journal.iter().flat_map(|message| message.entries("claim"));
    let claimed: BTreeSet<_> = claims.map(|claim| claim["alert"].as_str().unwrap()).collect();
    for call in service.sim.calls() {
        assert!(claimed.contains(alert_of(&call)), "a call without a claim: {}", call.path);
    }
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

    topics.make(&topics.journal, &[STAMPED]);
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

/// Usable settings are looked at again with every new connection, and every five minutes.
#[rstest]
#[case::compacted(("cleanup.policy", "compact"), ("cleanup.policy", "delete"), "set it to delete")]
#[case::too_short(("retention.ms", "60000"), ("retention.ms", "604800000"), "set it to at least")]
fn settings_that_become_wrong_are_noticed_with_the_next_connection_and_stop_calls(
    #[case] wrong: (&str, &str),
    #[case] right: (&str, &str),
    #[case] words: &str,
) {
    let Some(kafka) = Broker::own() else { return };
    let service = answering();
    let topics = Topics::create(&kafka.bootstrap, "spoiled");
    let mut daemons = two_at_work(&topics, &service);

    topics.configure(&topics.journal, &[STAMPED, wrong]);
    kafka.stop();
    kafka.start();
    assert_calls_stop(&mut daemons, &service, &[words, "no call is made"]);
    topics.configure(&topics.journal, &[STAMPED, right]);
    all_works_again(daemons, &service, &topics);
}

/// Two at work on a journal that wants two replicas in sync; and the broker that has the second of them. The journal's
/// leader is the first broker of `brokers`.
fn with_two_replicas(kafka: &Broker, brokers: [i32; 2]) -> (Service, Topics, Node, [Daemon; 2]) {
    let service = answering();
    let topics = Topics::create(&kafka.bootstrap, "in-sync");
    // Kafka's own topic of groups comes to be where the only broker is.
    assert_eq!(topics.uncommitted(), 0);
    let second = Node::second(kafka);
    topics.delete(&topics.journal);
    topics.make_on(&brokers, &topics.journal, &[STAMPED, ("min.insync.replicas", "2")]);
    let daemons = two_at_work(&topics, &service);
    (service, topics, second, daemons)
}

#[rstest]
#[case::under_the_same_leader([1, 2])]
#[case::under_a_new_leader([2, 1])]
fn a_journal_with_too_few_replicas_in_sync_takes_nothing_until_they_are_back(#[case] brokers: [i32; 2]) {
    let Some(kafka) = Broker::own() else { return };
    let (service, topics, mut second, mut daemons) = with_two_replicas(&kafka, brokers);
    second.stop();
    assert_calls_stop(&mut daemons, &service, &["replicas in sync", "look for a broker that is down"]);
    second.start();
    all_works_again(daemons, &service, &topics);
}

#[test]
fn a_journal_that_must_not_be_written_to_is_waited_for_until_it_may() {
    const ALL: &str = "User:ANONYMOUS";
    let Some(model) = Broker::shared() else { return };
    let kafka = Node::with_rights(model);
    let service = answering();
    let topics = Topics::create(&kafka.bootstrap, "write-right");
    let of_journal = ["--topic", &topics.journal];
    kafka.acl(&[&["--add", "--allow-principal", ALL, "--operation", "All"], &of_journal[..]].concat());
    let mut daemons = two_at_work(&topics, &service);

    let denial = [&["--deny-principal", ALL, "--operation", "Write"], &of_journal[..]].concat();
    kafka.acl(&[&["--add"], &denial[..]].concat());
    assert_calls_stop(&mut daemons, &service, &[&topics.journal, "denies access to the journal", "grant read, write"]);
    kafka.acl(&[&["--remove"], &denial[..]].concat());
    all_works_again(daemons, &service, &topics);
}

#[test]
fn without_a_broker_there_are_no_calls_and_with_it_they_go_on() {
    let Some(kafka) = Broker::own() else { return };
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

/// The window is longer than all of this takes, so that a budget that was lost would be seen in it.
#[test]
fn what_was_spent_before_the_journal_was_recreated_still_counts() {
    const LONG_WINDOW: [&str; 2] = ["20 per 1s", "60 per 90s"];
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&LONG_WINDOW, |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "recreated-in-a-window");
    topics.seed(high_alerts(20, TENANT, 500));
    let config = config(&topics, &service).limits(&LONG_WINDOW);
    let mut daemons = ["one", "two"].map(|name| Daemon::start(&config.clone().instance(name)));
    daemons[0].wait_for("a part of the window is spent", LONG, |_| (calls(&service) >= 15).then_some(()));
    let begun = Instant::now();
    topics.recreate_journal();
    // As any reader sees it: checkpoints, but of no offset of this log.
    let carried = eventually("what each knows is carried over", RECOVERY, || {
        let journal = topics.read_journal();
        let checkpoints: Vec<_> = journal.iter().flat_map(|message| message.entries("checkpoint")).cloned().collect();
        (checkpoints.len() >= 2).then_some(checkpoints)
    });
    for checkpoint in &carried {
        assert!(checkpoint["offset"].is_null(), "{checkpoint}");
    }
    let spent = calls(&service);
    // What they saw on their own clocks is forgotten: the journal alone knows of it.
    daemons.into_iter().for_each(Daemon::stop);
    let mut daemons = ["three", "four"].map(|name| Daemon::start(&config.clone().instance(name)));
    calls_go_on(&mut daemons[0], &service, RECOVERY);
    // Time for as many again.
    thread::sleep(Duration::from_secs(6));
    let (all, longest) = (calls(&service), service.sim.windows()[1]);
    eprintln!("{spent} calls before, {} after, {:.1} s after the first", all - spent, begun.elapsed().as_secs_f64());
    assert_eq!(longest.calls as u64, all, "it took so long that a lost budget would not be seen");
    service.assert_no_violation();
    // The window is full: it was put to the test.
    assert!(all > 50, "{longest:?}");
    daemons.into_iter().for_each(Daemon::stop);
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
    daemon.wait_for_log(UNPROVEN, LONG);
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
