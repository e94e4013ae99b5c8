//! Several instances over one journal, in paused time: one budget, one question once, one freeze.
//!
//! The journal here is an order of entries with delays both ways, as a topic has; the oracle is the simulated service's
//! own count.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    defender::{
        account::{Account, AccountHandle, Pending, Reporting},
        journal::{Footing, Journal, News},
    },
    domain::{
        alert::{Alert, AlertId, Severity},
        journal::{Entry, Stamped},
        phase::Phase,
        terms::Terms,
        time::JournalTime,
    },
    observe::{health::Health, metrics::Metrics},
    sim::{Answer, Mix, Plan, Settings, Sim},
};
use futures_util::FutureExt as _;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};

use crate::world::{START, SimTransport, defaults};

/// More entries than are ever on their way.
const MANY: usize = 10_000;

/// The order of the entries, and who reads them.
#[derive(Clone, Default)]
struct Topic(Arc<Mutex<Readers>>);

#[derive(Default)]
struct Readers {
    readers: Vec<mpsc::Sender<Stamped>>,
    entries: u64,
}

impl Topic {
    fn append(&self, at: JournalTime, entry: &Entry) {
        let mut topic = self.0.lock().unwrap();
        topic.entries += 1;
        for reader in &topic.readers {
            let offset = i64::try_from(topic.entries).unwrap();
            let _ = reader.try_send(Stamped { at, offset, entry: entry.clone() });
        }
    }

    fn entries(&self) -> u64 {
        self.0.lock().unwrap().entries
    }
}

/// One instance's view of the topic: an append takes a while to get there, an entry a while to come back.
struct TopicJournal {
    clock: Clock,
    appends: mpsc::Sender<Entry>,
    arriving: mpsc::Receiver<Stamped>,
    here: VecDeque<News>,
}

impl TopicJournal {
    fn new(topic: &Topic, clock: &Clock, seed: u64) -> Self {
        let (appends, mut queued) = mpsc::channel::<Entry>(MANY);
        let (deliver, arriving) = mpsc::channel(MANY);
        let (sender, mut sent) = mpsc::channel::<Stamped>(MANY);
        topic.0.lock().unwrap().readers.push(sender);
        let (topic, stamping) = (topic.clone(), clock.clone());
        let (mut there, mut back) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(!seed));
        tokio::spawn(async move {
            while let Some(entry) = queued.recv().await {
                sleep(Duration::from_micros(there.random_range(500..30_000))).await;
                topic.append(JournalTime::from_origin(stamping.boot().since_origin()), &entry);
            }
        });
        tokio::spawn(async move {
            while let Some(stamped) = sent.recv().await {
                sleep(Duration::from_micros(back.random_range(500..5_000))).await;
                let _ = deliver.try_send(stamped);
            }
        });
        Self {
            clock: clock.clone(),
            appends,
            arriving,
            here: [News::Replay(Box::default()), News::Usable(Footing::default())].into(),
        }
    }
}

impl Journal for TopicJournal {
    fn append(&mut self, entry: Entry) {
        let _ = self.appends.try_send(entry);
    }

    fn try_next(&mut self) -> Option<News> {
        self.here.pop_front().or_else(|| self.arriving.try_recv().ok().map(News::Entry))
    }

    async fn next(&mut self) -> News {
        match self.here.pop_front() {
            Some(news) => news,
            None => match self.arriving.recv().await {
                Some(stamped) => News::Entry(stamped),
                None => std::future::pending().await,
            },
        }
    }

    async fn flush(&mut self) {}

    fn now(&self) -> JournalTime {
        JournalTime::from_origin(self.clock.boot().since_origin())
    }
}

struct Fleet {
    topic: Topic,
    sim: Sim,
    clock: Clock,
    accounts: Vec<AccountHandle>,
    _phases: Vec<watch::Sender<Phase>>,
}

impl Fleet {
    fn of(instances: u64, seed: u64) -> Self {
        Self::answered(instances, seed, Plan::new(seed, Mix::ALL_FOUND))
    }

    fn answered(instances: u64, seed: u64, plan: Plan) -> Self {
        let clock = Clock::following_tokio(START);
        let mut settings = Settings::new(seed);
        settings.plan = plan;
        let topic = Topic::default();
        let (mut accounts, mut phases, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let configs: Vec<_> = (0..instances).map(|_| defaults(&settings)).collect();
        let sim = Sim::new(settings, clock.clone());
        for (instance, config) in (0..).zip(configs) {
            let health = Health::new(clock.clone());
            let reporting = Reporting {
                metrics: Metrics::new(START, []).account("test"),
                health: health.part("account"),
                pulse: health.pulse("account"),
            };
            let journal = TopicJournal::new(&topic, &clock, seed * 100 + instance);
            let transport = Arc::new(SimTransport(sim.clone()));
            let seed = seed * 100 + instance;
            let (task, account) = Account::new(config, clock.clone(), journal, transport, reporting, seed);
            let (phase, watched) = watch::channel(Phase::Running);
            tasks.push(task.run(watched));
            accounts.push(account);
            phases.push(phase);
        }
        for task in tasks {
            tokio::spawn(task);
        }
        Self { topic, sim, clock, accounts, _phases: phases }
    }

    async fn ask(&self, instance: usize, id: &str, severity: Severity) -> Pending {
        let now = self.clock.wall();
        let id = AlertId::parse(id).unwrap();
        let alert = Alert { id, tenant: None, severity, updated: None, created: Some(now) };
        self.accounts[instance].ask(alert, now).await.unwrap()
    }

    fn assert_limits_kept(&self) {
        for window in self.sim.windows() {
            assert!(!window.was_exceeded(), "{} calls in one window of {}", window.worst, window.limit);
        }
        assert_eq!(self.sim.violations(), []);
    }
}

#[tokio::test(start_paused = true)]
async fn three_instances_keep_one_budget_and_use_it() {
    for seed in 1..=3 {
        let fleet = Fleet::of(3, seed);
        let mut pending = Vec::new();
        for n in 0..2_400 {
            // The third instance has nothing to do: its part goes to the others.
            pending.push(fleet.ask(n % 2, &format!("a{n}"), Severity::Low).await);
        }
        sleep(Duration::from_hours(1)).await;
        fleet.assert_limits_kept();
        let calls = fleet.sim.counts().calls;
        assert!(calls >= 1_470, "{calls} of 1,500 calls in the first hour");
        let entries = fleet.topic.entries();
        assert!(entries * 2 <= calls * 5, "{entries} entries for {calls} calls");
    }
}

#[tokio::test(start_paused = true)]
async fn two_instances_ask_the_same_question_once() {
    let fleet = Fleet::of(2, 7);
    sleep(Duration::from_secs(1)).await;
    let mut pending = Vec::new();
    for n in 0..20 {
        for instance in 0..2 {
            pending.push(fleet.ask(instance, &format!("a{n}"), Severity::High).await);
        }
    }
    for pending in pending {
        pending.await.unwrap().unwrap();
    }
    assert_eq!(fleet.sim.counts().calls, 20);
    // And later, from what both know.
    fleet.ask(0, "a3", Severity::High).await.await.unwrap().unwrap();
    assert_eq!(fleet.sim.counts().calls, 20);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_seen_by_one_stops_all() {
    let fleet = Fleet::of(3, 5);
    sleep(Duration::from_secs(1)).await;
    let until = fleet.clock.boot() + Duration::from_mins(1);
    fleet.sim.switch(|switches| switches.frozen_until = Some(until));
    let first = fleet.ask(0, "first", Severity::High).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fleet.sim.counts().calls, 1);
    let others = [fleet.ask(1, "second", Severity::High).await, fleet.ask(2, "third", Severity::High).await];
    sleep(Duration::from_secs(50)).await;
    assert_eq!(fleet.sim.counts().calls, 1, "nobody asks while the service asks for a pause");
    for pending in others.into_iter().chain([first]) {
        pending.await.unwrap().unwrap();
    }
    assert!(fleet.clock.boot() >= until);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_fails_on_two_instances_holds_up_nobody() {
    let fleet = Fleet::answered(2, 3, Plan::new(3, Mix::ALL_FOUND).script("bad", vec![Answer::status(500)]));
    sleep(Duration::from_secs(1)).await;
    // The oldest and most severe, on both.
    let _bad = [fleet.ask(0, "bad", Severity::High).await, fleet.ask(1, "bad", Severity::High).await];
    let mut others = Vec::new();
    for n in 0..10 {
        others.push(fleet.ask(n % 2, &format!("other{n}"), Severity::High).await);
    }
    let asked = fleet.clock.boot();
    for other in others {
        other.await.unwrap().unwrap();
    }
    let took = fleet.clock.boot().saturating_since(asked);
    assert!(took <= Duration::from_mins(1), "{took:?}");
    sleep(Duration::from_mins(1)).await;
    let calls = fleet.sim.counts().calls;
    assert!(calls <= 10 + 30, "{calls} calls: the failing question is asked without its backoff");
}

#[tokio::test(start_paused = true)]
async fn minor_alerts_of_one_instance_get_their_tenth_beside_the_others_high_ones() {
    let fleet = Fleet::of(2, 9);
    sleep(Duration::from_secs(1)).await;
    let (mut high, mut low) = (Vec::new(), Vec::new());
    for n in 0..2_000 {
        high.push(fleet.ask(0, &format!("high{n}"), Severity::High).await);
        low.push(fleet.ask(1, &format!("low{n}"), Severity::Low).await);
    }
    sleep(Duration::from_mins(30)).await;
    fleet.assert_limits_kept();
    let answered = low.into_iter().filter_map(|mut pending| (&mut pending).now_or_never()).count();
    let calls = fleet.sim.counts().calls;
    assert!(answered as u64 * 20 >= calls, "{answered} of {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn smaller_limits_of_one_instance_hold_for_all_from_when_it_declares_them() {
    let fleet = Fleet::of(2, 1);
    let mut pending = Vec::new();
    for n in 0..1_200 {
        pending.push(fleet.ask(n % 2, &format!("a{n}"), Severity::High).await);
    }
    sleep(Duration::from_mins(5)).await;
    let limits = vec!["20 per 1m".parse().unwrap()];
    fleet.accounts[0].hold_to(Terms { limits, ..defaults(&Settings::new(1)).terms });
    // What is on its way is made, and what was granted leaves the windows.
    sleep(Duration::from_mins(2)).await;
    let before = fleet.sim.counts().calls;
    sleep(Duration::from_mins(10)).await;
    let calls = fleet.sim.counts().calls - before;
    assert!((100..=200).contains(&calls), "{calls} calls in ten minutes, with 20 a minute");
    fleet.assert_limits_kept();
}
