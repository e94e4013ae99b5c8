//! Instances that are killed, stopped and restarted at random.

use std::{
    collections::BTreeSet,
    env, thread,
    time::{Duration, Instant},
};

use alert_ips::sim::{Answer, Latency, Mix, Plan};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::IndexedRandom as _};

use super::{
    MAX_IN_FLIGHT, alerts_with_repeats, asked_in_vain, calls, calls_by_alert, config, ids, is_full_run, new_alerts,
    service,
};
use crate::harness::{Broker, Checker, Config, Daemon, Service, Topics, eventually};

/// Answers of the kinds that are asked for again, beside those that are not.
const MIX: Mix = Mix { found: 840, empty: 90, late: 40, failing: 30, ..Mix::NOTHING };

const SHORT_STOP: Duration = Duration::from_secs(5);

/// Longer than a claim lives and a call takes: what was on its way before is given up by all.
const LONG_STOP: Duration = Duration::from_mins(1);

/// Instances, and what has been done to them.
struct Fleet {
    members: Vec<Member>,
    random: SmallRng,
    kills: usize,
    short_stops: usize,
    long_stops: usize,
    restarts: usize,
}

/// One instance, whatever happens to it.
struct Member {
    config: Config,
    life: Life,
}

enum Life {
    Running(Daemon),
    Stopped { daemon: Daemon, until: Instant },
    Down { until: Instant },
}

impl Fleet {
    fn start(configs: impl IntoIterator<Item = Config>, seed: u64) -> Self {
        let start = |config| Member { life: Life::Running(Daemon::start(&config)), config };
        let members = configs.into_iter().map(start).collect();
        let random = SmallRng::seed_from_u64(seed);
        Self { members, random, kills: 0, short_stops: 0, long_stops: 0, restarts: 0 }
    }

    /// Continues and starts again those whose time has come. The others must be running.
    fn tick(&mut self) {
        for member in &mut self.members {
            let now = Instant::now();
            match &mut member.life {
                Life::Running(daemon) => daemon.assert_running(),
                Life::Stopped { until, .. } | Life::Down { until } if now < *until => {}
                Life::Stopped { .. } => {
                    if let Life::Stopped { daemon, .. } = member.take_life() {
                        daemon.resume();
                        member.life = Life::Running(daemon);
                    }
                }
                Life::Down { .. } => member.life = Life::Running(Daemon::start(&member.config)),
            }
        }
    }

    /// Does something to one of the running instances.
    fn disturb(&mut self) {
        let pause = Duration::from_millis(self.random.random_range(0..4_000));
        match self.random.random_range(0..10) {
            0..5 => {
                if let Some((member, daemon)) = self.any_running() {
                    daemon.kill();
                    member.life = Life::Down { until: Instant::now() + pause };
                    self.kills += 1;
                }
            }
            5..8 => self.short_stops += self.stop_one(SHORT_STOP),
            _ => {
                if let Some((member, daemon)) = self.any_running() {
                    daemon.stop();
                    member.life = Life::Down { until: Instant::now() + pause };
                    self.restarts += 1;
                }
            }
        }
    }

    fn stop_one_for_long(&mut self) {
        self.long_stops += self.stop_one(LONG_STOP);
    }

    fn stop_one(&mut self, lasts: Duration) -> usize {
        let Some((member, daemon)) = self.any_running() else { return 0 };
        daemon.pause();
        member.life = Life::Stopped { daemon, until: Instant::now() + lasts };
        1
    }

    /// One of the running instances, taken out of its place.
    fn any_running(&mut self) -> Option<(&mut Member, Daemon)> {
        let running = |member: &Member| matches!(member.life, Life::Running(_));
        let running: Vec<_> = (0..self.members.len()).filter(|index| running(&self.members[*index])).collect();
        let member = &mut self.members[*running.choose(&mut self.random)?];
        match member.take_life() {
            Life::Running(daemon) => Some((member, daemon)),
            Life::Stopped { .. } | Life::Down { .. } => None,
        }
    }

    fn is_whole(&self) -> bool {
        self.members.iter().all(|member| matches!(member.life, Life::Running(_)))
    }

    /// Stops all as an operator does.
    fn stop(self) {
        for member in self.members {
            if let Life::Running(daemon) = member.life {
                daemon.stop();
            }
        }
    }
}

impl Member {
    fn take_life(&mut self) -> Life {
        std::mem::replace(&mut self.life, Life::Down { until: Instant::now() })
    }
}

/// A late answer is one of a call that may have been claimed long ago: that is what the windows are about.
fn slow_service() -> Service {
    service(|settings| {
        settings.plan = Plan::new(7, MIX);
        settings.latency = Latency::HeavyTail { typical: Duration::from_millis(50) };
    })
}

fn seed() -> u64 {
    let wanted = env::var("ALERT_IPS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = wanted.unwrap_or_else(|| if is_full_run() { rand::random() } else { 1 });
    eprintln!("ALERT_IPS_SEED={seed} repeats this");
    seed
}

/// What the plan costs beyond one call for each alert: questions again after a 404, and calls again after a failure.
fn planned_again(service: &Service, asked: &BTreeSet<String>) -> (usize, usize) {
    service.sim.with(|service| {
        let plan = service.plan();
        let mut answers = Vec::new();
        for id in asked {
            let last = plan.last(id);
            answers.extend((0..).map(|earlier| plan.answer(id, earlier)).take_while(|answer| *answer != last));
        }
        let reasks = answers.iter().filter(|answer| **answer == Answer::NotFound).count();
        (reasks, answers.len() - reasks)
    })
}

/// Of what was on the wire at a kill, or before a stop for longer than a claim and its call may live, no answer was written
/// down: so much may be asked again, and nothing else.
fn assert_no_call_too_many(service: &Service, asked: &BTreeSet<String>, interruptions: usize) {
    let (reasks, failures) = planned_again(service, asked);
    let most = asked.len() + reasks + failures + MAX_IN_FLIGHT * interruptions;
    let calls = service.sim.calls().len();
    eprintln!(
        "{calls} calls, at most {most}: {} alerts, {reasks} re-asks, {failures} failures, {MAX_IN_FLIGHT} for each of \
         {interruptions} interruptions",
        asked.len()
    );
    assert!(calls <= most, "{calls} calls where {most} are enough");
}

/// The same while not everything is answered: what was asked beyond the plan so far.
fn assert_no_question_too_many(service: &Service, interruptions: usize) {
    let calls = calls_by_alert(service);
    let beyond_plan = |(id, calls): (&String, &Vec<_>)| {
        let (reasks, failures) = planned_again(service, &BTreeSet::from([id.clone()]));
        calls.len().saturating_sub(1 + reasks + failures)
    };
    let too_many: usize = calls.iter().map(beyond_plan).sum();
    assert!(too_many <= MAX_IN_FLIGHT * interruptions, "{too_many} calls too many after {interruptions} interruptions");
}

fn assert_windows_held(service: &Service) {
    service.assert_no_violation();
    for window in service.sim.windows() {
        eprintln!("fullest window of {}: {}", window.limit, window.worst);
        assert!(!window.was_exceeded(), "{window:?}");
    }
}

#[test]
fn three_instances_killed_stopped_and_restarted_keep_one_budget() {
    let Some(kafka) = Broker::own() else { return };
    let service = slow_service();
    let topics = Topics::create(&kafka.bootstrap, "three");
    let messages = alerts_with_repeats(11, if is_full_run() { 3_000 } else { 600 }, 20);
    let asked = ids(&messages);
    let seeded = topics.seed(messages);
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    let config = config(topics, &service);
    let names = ["one", "two", "three"];

    let mut fleet = Fleet::start(names.map(|name| config.clone().instance(name)), seed());
    let expected = i64::try_from(checker.expected_records()).unwrap();
    let reached = |percent: i64| topics.count(&topics.output) >= expected * percent / 100;
    let begun = Instant::now();
    let mut disturb_at = begun + Duration::from_secs(5);
    // In percent of the outputs: when an instance is stopped for long, and when the broker restarts.
    let mut long_stops = if is_full_run() { vec![70, 45, 25, 5] } else { vec![5] };
    let mut broker_restart = Some(50);
    eventually("everything is answered and committed", Duration::from_mins(20), || {
        fleet.tick();
        if long_stops.last().is_some_and(|percent| reached(*percent)) {
            long_stops.pop();
            fleet.stop_one_for_long();
        }
        if broker_restart.is_some_and(reached) {
            broker_restart = None;
            kafka.stop();
            kafka.start();
        }
        if Instant::now() >= disturb_at && !reached(80) {
            assert_no_question_too_many(&service, fleet.kills + fleet.long_stops);
            fleet.disturb();
            disturb_at = Instant::now() + Duration::from_millis(fleet.random.random_range(3_000..9_000));
        }
        (fleet.is_whole() && topics.uncommitted() == 0).then_some(())
    });
    let Fleet { kills, short_stops, long_stops, restarts, .. } = fleet;
    eprintln!(
        "{kills} kills, {short_stops} stops of 5 s, {long_stops} of 60 s, {restarts} restarts; {} calls for {} alerts, {} in \
         vain, in {} s",
        calls(&service),
        asked.len(),
        asked_in_vain(&service),
        begun.elapsed().as_secs()
    );
    assert!(kills > 0 && long_stops > 0 && broker_restart.is_none());
    fleet.stop();

    assert_windows_held(&service);
    let published = checker.assert_at_least_once();
    eprintln!("{published:?}");
    assert_no_call_too_many(&service, &asked, kills + long_stops);
    assert_no_question_too_many(&service, kills + long_stops);
}

#[test]
fn a_crash_loop_never_exceeds_a_window() {
    let Some(kafka) = Broker::shared() else { return };
    let service = slow_service();
    let topics = Topics::create(&kafka.bootstrap, "crash-loop");
    let messages = new_alerts(12, 300);
    let asked = ids(&messages);
    let seeded = topics.seed(messages);
    let checker = Checker::new(topics, &service, seeded);
    let topics = checker.topics();
    // A member that comes back under its own name has its partitions at once. A call is given up soon, else those of the
    // first lives would fill the line for longer than the loop lasts.
    let config = config(topics, &service)
        .set("instance.static_member", true)
        .set("http.head_timeout", "2s")
        .set("http.total_timeout", "2s");

    let mut lives_that_called = 0;
    for _ in 0..20 {
        let before = calls(&service);
        let daemon = Daemon::start(&config);
        thread::sleep(Duration::from_millis(1_500));
        daemon.kill();
        lives_that_called += usize::from(calls(&service) > before);
    }
    eprintln!("{lives_that_called} of 20 lives made calls, {} in all", calls(&service));
    assert!(lives_that_called >= 3, "{lives_that_called} lives made calls: too few to show anything");
    assert_windows_held(&service);

    let mut daemon = Daemon::start(&config);
    daemon.finish(topics);
    daemon.stop();
    assert_windows_held(&service);
    assert_no_call_too_many(&service, &asked, 20);
    checker.assert_at_least_once();
}
