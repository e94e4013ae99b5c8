//! What is known is known to all: to the same instance after a restart, and to others at once.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant},
};

use alert_ips::{
    clock::Clock,
    sim::{Answer, Latency, Mix, Plan},
};

use super::{MAX_IN_FLIGHT, RECOVERY, calls, calls_by_alert, config, ids, new_alerts, service};
use crate::harness::{Broker, Checker, Config, Daemon, LONG, Service, Topics, eventually};

#[test]
fn a_restart_reuses_answers_and_goes_on_with_re_asks_and_full_windows() {
    let Some(kafka) = Broker::shared() else { return };
    let limits = ["20 per 1s", "100 per 20s"];
    let messages = new_alerts(13, 100);
    let (late, unknown) = (ids(&messages[..1]).pop_first().unwrap(), ids(&messages[1..2]).pop_first().unwrap());
    let asked_first = ids(&messages[..30]).len();
    let service = Service::start(&limits, |settings| {
        let plan = Plan::new(7, Mix::ALL_FOUND);
        let then_found = vec![Answer::NotFound, Answer::NotFound, Answer::Found(vec!["192.0.2.1".to_owned()])];
        settings.plan = plan.script(&late, then_found).script(&unknown, vec![Answer::NotFound]);
    });
    let topics = Topics::create(&kafka.bootstrap, "restart");
    let config = Config::new(&topics, &service.origin)
        .limits(&limits)
        .set("not_found.reask_after", r#"["15s", "3s", "3s"]"#)
        .property("session.timeout.ms", 6_000);

    let seeded = topics.seed(messages[..30].to_vec());
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("all but the unknown ones are answered", LONG, |_| {
        let published = usize::try_from(topics.count(&topics.output)).unwrap();
        (published >= asked_first - 2).then_some(())
    });
    // With no time to write anything down.
    daemon.kill();
    assert_eq!(calls(&service), asked_first as u64, "one call for each");

    // The same again, and more than the windows have room for.
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    let repeated = topics.seed(messages.clone());
    let mut daemon = Daemon::start(&config);
    daemon.finish(topics);
    daemon.stop();
    service.assert_no_violation();
    let longest = service.sim.windows()[1];
    assert!(longest.worst > 60, "{longest:?}: it was never put to the test");
    let calls = calls_by_alert(&service);
    assert_eq!(calls.keys().cloned().collect::<BTreeSet<_>>(), ids(&messages));
    assert_eq!(calls[&late].len(), 3, "{:?}", calls[&late]);
    assert_eq!(calls[&unknown].len(), 4, "asked once, and three times again, in two lives");
    let others = calls.iter().filter(|(id, _)| **id != late && **id != unknown);
    let asked_twice: Vec<_> = others.filter(|(_, calls)| calls.len() > 1).collect();
    assert!(asked_twice.is_empty(), "{asked_twice:?}");
    checker.also(&service, repeated).assert_at_least_once();
}

#[test]
fn two_groups_with_one_journal_keep_one_budget_and_ask_each_question_once() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service(|settings| {
        settings.plan = Plan::new(7, Mix::ALL_FOUND);
        settings.latency = Latency::Uniform { from: Duration::from_millis(20), to: Duration::from_millis(300) };
    });
    let blue = Topics::create(&kafka.bootstrap, "blue");
    let mut green = Topics::create(&kafka.bootstrap, "green");
    green.delete(&green.journal);
    green.journal.clone_from(&blue.journal);
    let messages = new_alerts(14, 200);
    let distinct = ids(&messages).len();
    let checkers = [blue, green].map(|topics| {
        let seeded = topics.seed(messages.clone());
        Checker::new(topics, &service, seeded)
    });
    let mut daemons = ["blue", "green"]
        .iter()
        .zip(&checkers)
        .map(|(name, checker)| Daemon::start(&config(checker.topics(), &service).instance(name)))
        .collect::<Vec<_>>();
    for (daemon, checker) in daemons.iter_mut().zip(&checkers) {
        daemon.finish(checker.topics());
    }
    daemons.into_iter().for_each(Daemon::stop);

    service.assert_no_violation();
    let calls = calls_by_alert(&service);
    let asked_twice: Vec<_> = calls.iter().filter(|(_, calls)| calls.len() > 1).collect();
    assert!(asked_twice.is_empty(), "{asked_twice:?}");
    assert_eq!(calls.len(), distinct);
    checkers.iter().for_each(Checker::assert_exactly_once);
}

#[test]
fn a_freeze_seen_by_one_stops_all_and_its_end_is_told() {
    const FREEZE: Duration = Duration::from_secs(15);
    let Some(kafka) = Broker::shared() else { return };
    let service = service(|settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "freeze");
    topics.seed_many(2_000, Duration::ZERO);
    let mut daemons = ["one", "two", "three"].map(|name| Daemon::start(&config(&topics, &service).instance(name)));
    // Each instance has partitions and makes calls.
    for daemon in &mut daemons {
        daemon.wait_for("calls of every instance", LONG, |daemon| {
            (daemon.metric("alert_ips_api_calls_total")? >= 5.0).then_some(())
        });
    }

    let until = Clock::machine().boot() + FREEZE;
    service.sim.switch(|switches| switches.frozen_until = Some(until));
    let throttled = || {
        let calls = service.sim.calls();
        calls.into_iter().filter(|call| call.status == Some(429)).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    eventually("a 429", LONG, || (!throttled().is_empty()).then_some(()));
    for daemon in &mut daemons {
        let told = daemon.wait_for("reason and end", Duration::from_secs(5), |daemon| {
            let (_, body) = daemon.page("/readyz?verbose")?;
            let json: serde_json::Value = serde_json::from_str(&body).unwrap();
            let paused = json["accounts"][0]["paused"].clone();
            (!paused.is_null()).then_some(paused)
        });
        assert!(told["why"].as_str().unwrap().contains("429"), "{told}");
        let remaining = told["remaining_seconds"].as_f64().unwrap();
        let left = FREEZE.saturating_sub(begun.elapsed()).as_secs_f64();
        // Retry-After is in whole seconds, rounded up.
        assert!((left - 2.0..=left + 2.0).contains(&remaining), "{remaining} s told, {left} s left");
    }
    thread::sleep(FREEZE.saturating_sub(begun.elapsed()));
    let refused = throttled();
    // Whatever was claimed before the first refusal was known to all.
    assert!(refused.len() <= MAX_IN_FLIGHT, "{} calls were refused", refused.len());
    assert_eq!(topics.journal_entries("freeze"), refused.len());

    let before = calls(&service);
    eventually("calls after the freeze", RECOVERY, || (calls(&service) > before + 5).then_some(()));
    assert_eq!(throttled().len(), refused.len(), "nobody called before the end");
    daemons.into_iter().for_each(Daemon::stop);
    service.assert_no_violation();
}
