//! Several instances over one journal, in paused time; the oracle is the simulated service's own count.

mod doubt;
mod lives;
mod spare;
mod together;
mod topic;

use std::{sync::Arc, time::Duration};

use alert_ips::{
    clock::Clock,
    defender::account::{Account, AccountHandle, Pending, Reporting},
    domain::{
        alert::{Alert, AlertId, Severity},
        journal::{Answer, Body, Claim, Entry, EntryId, Reached, WriterId},
        phase::Phase,
        terms::Terms,
    },
    observe::{
        health::{Condition, Health},
        metrics::Metrics,
        status::AccountStatus,
    },
    sim::{Mix, Plan, Settings, Sim},
};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use self::topic::{Begin, Topic, TopicJournal};
use crate::world::{START, SimTransport, defaults};

/// Until what was written has been read by all, and told.
const A_MOMENT: Duration = Duration::from_secs(1);

struct Fleet {
    seed: u64,
    topic: Topic,
    sim: Sim,
    clock: Clock,
    instances: Vec<Instance>,
}

struct Instance {
    account: AccountHandle,
    health: Health,
    life: JoinHandle<()>,
    _phase: watch::Sender<Phase>,
}

impl Fleet {
    fn of(instances: usize, seed: u64) -> Self {
        Self::answered(instances, seed, Plan::new(seed, Mix::ALL_FOUND))
    }

    fn answered(instances: usize, seed: u64, plan: Plan) -> Self {
        let clock = Clock::following_tokio(START);
        let mut settings = Settings::new(seed);
        settings.plan = plan;
        let sim = Sim::new(settings, clock.clone());
        let mut fleet = Self { seed, topic: Topic::new(&clock), sim, clock, instances: Vec::new() };
        for _ in 0..instances {
            fleet.start(Begin::Oldest);
        }
        fleet
    }

    /// Starts one more instance, and says which it is.
    fn start(&mut self, begin: Begin) -> usize {
        let instance = self.instances.len();
        let seed = self.seed * 100 + instance as u64;
        let health = Health::new(self.clock.clone());
        let reporting = Reporting {
            metrics: Metrics::new(START, []).account("test"),
            health: health.part("account"),
            pulse: health.pulse("account"),
        };
        let journal = TopicJournal::open(&self.topic, begin, seed);
        let transport = Arc::new(SimTransport(self.sim.clone()));
        let config = defaults(&Settings::new(seed));
        let (task, account) = Account::new(config, self.clock.clone(), journal, transport, reporting, seed);
        let (phase, watched) = watch::channel(Phase::Running);
        let life = tokio::spawn(task.run(watched));
        self.instances.push(Instance { account, health, life, _phase: phase });
        instance
    }

    /// As SIGKILL.
    fn kill(&self, instance: usize) {
        self.instances[instance].life.abort();
    }

    async fn ask(&self, instance: usize, id: &str, severity: Severity) -> Pending {
        let now = self.clock.wall();
        let id = AlertId::parse(id).unwrap();
        let alert = Alert { id, tenant: None, severity, updated: None, created: Some(now) };
        self.instances[instance].account.ask(alert, now).await.unwrap()
    }

    /// So many alerts, named by their instance and number.
    async fn ask_many(&self, instance: usize, count: usize, severity: Severity) -> Vec<Pending> {
        let mut pending = Vec::new();
        for n in 0..count {
            pending.push(self.ask(instance, &format!("i{instance}_{n}"), severity).await);
        }
        pending
    }

    fn calls(&self) -> u64 {
        self.sim.counts().calls
    }

    fn status(&self, instance: usize) -> AccountStatus {
        self.instances[instance].account.status().borrow().clone()
    }

    fn condition(&self, instance: usize) -> Condition {
        self.instances[instance].health.report()[0].condition.clone()
    }

    fn assert_limits_kept(&self) {
        for window in self.sim.windows() {
            assert!(!window.was_exceeded(), "{} calls in one window of {}", window.worst, window.limit);
        }
        assert_eq!(self.sim.violations(), []);
    }
}

/// What every instance here holds itself to.
fn terms() -> Terms {
    defaults(&Settings::new(0)).terms
}

/// An instance of which nothing is there but its entries.
struct Other {
    topic: Topic,
    last: EntryId,
}

impl Other {
    fn of(fleet: &Fleet) -> Self {
        Self { topic: fleet.topic.clone(), last: EntryId { writer: WriterId(7), number: 0 } }
    }

    fn write(&mut self, body: Body) -> EntryId {
        self.last.number += 1;
        self.topic.append(Entry { id: self.last, instance: "other".into(), body });
        self.last
    }

    fn claims(&mut self, alert: &str) -> EntryId {
        let alert = AlertId::parse(alert).unwrap();
        self.write(Body::Claim(Claim { alert, severity: Severity::High, reserved: true, highs_wait: false }))
    }

    fn answers(&mut self, claim: EntryId, alert: &str) {
        let alert = AlertId::parse(alert).unwrap();
        self.write(Body::Answer(Answer { claim, alert, reached: Reached::Complete, status: Some(503), outcome: None }));
    }
}

/// Until all know what was written.
async fn a_moment() {
    sleep(A_MOMENT).await;
}
