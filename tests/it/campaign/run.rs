//! One run: a fleet over one partition and one service, and what happens to it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    domain::budget::{Budget, Ruling},
    sim::{Outage, Plan as Answers, Settings, Sim},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::{Instant, sleep, sleep_until};

use super::{
    defects::Defect,
    faults::{CALM, Event, LASTS, Plan},
    gate::Gate,
    instance::{live, name, stagger},
    load::{Alerts, Asker},
    network::{Flight, Flights},
    partition::{Partition, Stored},
    signal::Signal,
};
use crate::world::START;

/// How often it is looked whether a limit is broken already.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// What the parts of a run share.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) defect: Defect,
    pub(super) sim: Sim,
    pub(super) flights: Flights,
    clock: Clock,
    started: Instant,
    /// One, for all; only a defect has more.
    partitions: Vec<Partition>,
    /// By instance: the current life.
    gates: Mutex<Vec<Gate>>,
    /// By instance: how many cuts hold, and whether the broker can be reached.
    cuts: Mutex<Vec<u32>>,
    reachable: Vec<Signal<bool>>,
    pauses: Mutex<Vec<(Duration, Duration)>>,
    /// By instance: until when it is stopped, once a claim of it is granted.
    traps: Mutex<Vec<Option<Duration>>>,
    over: Signal<bool>,
}

/// What is known of a run when it is over.
pub(super) struct Record {
    pub(super) plan: Plan,
    pub(super) sim: Sim,
    pub(super) flights: Vec<Flight>,
    /// What was in each log that there was, one after the other.
    pub(super) logs: Vec<Vec<Stored>>,
    pub(super) askers: Vec<Asker>,
    pub(super) pauses: Vec<(Duration, Duration)>,
}

impl Record {
    /// All messages that ever were.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Stored> {
        self.logs.iter().flatten()
    }
}

/// Plays a plan, in a runtime of its own.
pub(super) fn play(plan: Plan, defect: Defect) -> Record {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(World::new(plan, defect).run())
}

impl World {
    fn new(plan: Plan, defect: Defect) -> Self {
        let clock = Clock::following_tokio(START);
        let mut settings = Settings::new(plan.seed);
        settings.plan = Answers::new(plan.seed, plan.mix);
        let partitions = 0..defect.partitions(plan.instances);
        let partitions = partitions.map(|_| Partition::new(&plan.steps, plan.rate)).collect();
        Self {
            sim: Sim::new(settings, clock.clone()),
            flights: Flights::new(),
            clock,
            started: Instant::now(),
            partitions,
            gates: Mutex::new(vec![Gate::default(); plan.instances]),
            cuts: Mutex::new(vec![0; plan.instances]),
            reachable: (0..plan.instances).map(|_| Signal::new(true)).collect(),
            pauses: Mutex::default(),
            traps: Mutex::new(vec![None; plan.instances]),
            over: Signal::new(false),
            plan,
            defect,
        }
    }

    async fn run(self) -> Record {
        let world = Arc::new(self);
        let mut random = SmallRng::seed_from_u64(!world.plan.seed);
        let alerts = Alerts::default();
        let stormy = random.random_range(0..world.plan.instances);
        let mut lives = Vec::new();
        for who in 0..world.plan.instances {
            let asker = Asker::new(&world.plan.load, &alerts, random.random(), who == stormy);
            let (after, seed) = (stagger(&mut random), random.random());
            let world = world.clone();
            lives.push(tokio::spawn(async move {
                sleep(after).await;
                live(world, who, asker, seed).await
            }));
        }
        let happening = world.clone();
        let events = tokio::spawn(async move {
            for (when, event) in happening.plan.events.clone() {
                sleep_until(happening.started + when).await;
                happening.happen(event);
            }
        });
        let trapping = world.clone();
        if world.plan.events.iter().any(|(_, event)| matches!(event, Event::StopWhenGranted { .. })) {
            tokio::spawn(async move { trapping.spring_traps().await });
        }
        // What is wrong already need not go on.
        while Instant::now() < world.ends() && world.sim.counts().violations == 0 {
            sleep(LOOK_EVERY).await;
        }
        events.abort();
        world.over.set(true);
        let mut askers = Vec::new();
        for life in lives {
            askers.push(life.await.unwrap());
        }
        Record {
            plan: world.plan.clone(),
            sim: world.sim.clone(),
            flights: world.flights.all(),
            logs: world.partitions[0].logs(),
            askers,
            pauses: world.pauses.lock().unwrap().clone(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn ends(&self) -> Instant {
        self.started + LASTS
    }

    pub(super) fn calm(&self) -> Instant {
        self.started + CALM
    }

    /// Waits for the end of the run.
    pub(super) async fn over(&self) {
        self.over.wait_for(|over| over).await;
    }

    pub(super) fn begin_life(&self, who: usize, gate: &Gate) {
        self.gates.lock().unwrap()[who] = gate.clone();
    }

    pub(super) fn partition(&self, who: usize) -> &Partition {
        &self.partitions[who % self.partitions.len()]
    }

    pub(super) fn reachable(&self, who: usize) -> Signal<bool> {
        self.reachable[who].clone()
    }

    /// Rules as every reader will, at the moment a message is in the log, and stops who must not see it.
    async fn spring_traps(&self) {
        let (mut budget, mut next) = (Budget::default(), 0);
        loop {
            self.partitions[0].end().wait_for(|end| end > next).await;
            for message in self.partitions[0].from(next) {
                next += 1;
                for entry in message.entries() {
                    if let Ruling::Granted(_) = budget.apply(message.time(), &entry) {
                        self.spring(&entry.instance);
                    }
                }
            }
        }
    }

    fn spring(&self, instance: &str) {
        let Some(who) = (0..self.plan.instances).find(|who| name(*who) == instance) else { return };
        if let Some(until) = self.traps.lock().unwrap()[who].take() {
            self.gates.lock().unwrap()[who].stop_for(until.saturating_sub(self.elapsed()));
        }
    }

    fn happen(self: &Arc<Self>, event: Event) {
        let gate = |who: usize| self.gates.lock().unwrap()[who].clone();
        match event {
            Event::Kill { who, down } => gate(who).kill(down),
            Event::Stop { who, lasts } => who.into_iter().for_each(|who| gate(who).stop_for(lasts)),
            Event::StopWhenGranted { who, until } => self.traps.lock().unwrap()[who] = Some(until),
            Event::Cut { who, lasts } => {
                self.cut(&who, 1);
                self.after(lasts, move |world| world.cut(&who, -1));
            }
            Event::Pause { lasts } => {
                let (now, until) = (self.elapsed(), self.clock.boot() + lasts);
                self.sim.switch(|switches| switches.frozen_until = Some(until));
                self.pauses.lock().unwrap().push((now, now + lasts));
            }
            Event::Outage { lasts } => {
                self.sim.switch(|switches| switches.outage = Some(Outage::Unavailable));
                self.after(lasts, |world| world.sim.switch(|switches| switches.outage = None));
            }
            Event::Recreate => self.partitions[0].recreate(),
        }
    }

    fn cut(&self, who: &[usize], by: i32) {
        let mut cuts = self.cuts.lock().unwrap();
        for who in who {
            cuts[*who] = cuts[*who].saturating_add_signed(by);
            self.reachable[*who].set(cuts[*who] == 0);
        }
    }

    fn after(self: &Arc<Self>, wait: Duration, then: impl FnOnce(&Self) + Send + 'static) {
        let world = self.clone();
        tokio::spawn(async move {
            sleep(wait).await;
            then(&world);
        });
    }
}
