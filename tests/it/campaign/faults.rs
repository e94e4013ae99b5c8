//! What goes wrong in a run, and when: drawn from its seed. Not everything in every run: a fault that is always there hides
//! what another would show.

use std::time::Duration;

use alert_ips::sim::{Latency, Mix};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::{load::Load, log::LogFaults, network::NetworkFaults, partition::Step, variations::Change};

/// How long a run lasts.
pub(super) const LASTS: Duration = Duration::from_hours(2);

/// From here on nothing goes wrong any more, and what waits must get its answers.
pub(super) const CALM: Duration = Duration::from_mins(95);

/// How long a restart must keep its distance from a forward jump of the broker's clock before it: a documented limit. What
/// an instance did not see arrive it can't hold on its own clock.
pub(super) const UNSEEN: Duration = Duration::from_mins(66);

/// Something that happens at a certain time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The instance is killed; another takes its place after a while.
    Kill { who: usize, down: Duration },
    /// These are stopped, and continued together.
    Stop { who: Vec<usize>, lasts: Duration },
    /// The instance is stopped as soon as a claim of it is granted, before it can know, until this time of the run.
    StopWhenGranted { who: usize, until: Duration },
    /// These can't reach the broker.
    Cut { who: Vec<usize>, lasts: Duration },
    /// The service asks for a pause.
    Pause { lasts: Duration },
    /// The service answers 503.
    Outage { lasts: Duration },
    /// The journal's topic is deleted and created anew.
    Recreate,
}

/// All about one run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) instances: usize,
    pub(super) load: Load,
    pub(super) mix: Mix,
    pub(super) log: LogFaults,
    /// All but the last instance read the log so slowly.
    pub(super) behind: Option<Latency>,
    pub(super) network: NetworkFaults,
    /// Ordered by time.
    pub(super) events: Vec<(Duration, Event)>,
    /// Steps of the broker's clock.
    pub(super) steps: Vec<Step>,
    /// How fast the broker's clock runs beside all others.
    pub(super) rate: f64,
    /// Entries are stamped by the clocks of their writers.
    pub(super) own_stamps: bool,
    /// A rolling change of what the instances hold themselves to.
    pub(super) change: Option<Change>,
    /// The hosts' wall clocks are set now and then.
    pub(super) wall_steps: bool,
}

impl Plan {
    /// Three instances with more to ask than they may, and nothing that goes wrong.
    pub(super) fn healthy(seed: u64) -> Self {
        Self {
            seed,
            instances: 3,
            load: Load::saturating(),
            mix: Mix::ALL_FOUND,
            log: LogFaults {
                append: Latency::HeavyTail { typical: Duration::from_millis(4) },
                fetch: Latency::HeavyTail { typical: Duration::from_millis(4) },
                ..LogFaults::default()
            },
            behind: None,
            network: NetworkFaults {
                way: Latency::HeavyTail { typical: Duration::from_millis(150) },
                ..NetworkFaults::default()
            },
            events: Vec::new(),
            steps: Vec::new(),
            rate: 1.0,
            own_stamps: false,
            change: None,
            wall_steps: false,
        }
    }

    /// What this seed stands for.
    pub(super) fn draw(seed: u64) -> Self {
        let mut draw = Draw(SmallRng::seed_from_u64(seed));
        let mut plan = Self::healthy(seed);
        plan.instances = draw.0.random_range(1..=4);
        plan.load = Load::draw(&mut draw.0);
        plan.mix = [Mix::ALL_FOUND, Mix::REALISTIC, Mix::STORMY][draw.0.random_range(0..3_usize)];
        plan.log = draw.log();
        plan.network = draw.network();
        draw.stops(&mut plan);
        draw.kills(&mut plan);
        draw.outages(&mut plan);
        draw.clock(&mut plan);
        plan.behind = draw.0.random_bool(0.1).then_some(Latency::Fixed(Duration::from_secs(10)));
        plan.vary(&mut draw.0);
        // Where writers stamp the entries, the terms say how far apart their clocks are at most.
        plan.wall_steps = !plan.own_stamps && draw.0.random_bool(0.3);
        plan.events.sort_by_key(|(when, _)| *when);
        plan
    }

    /// One is killed every few minutes, as long as not all is calm.
    pub(super) fn kill_often(&mut self, random: &mut SmallRng) {
        let mut when = Duration::from_mins(3);
        while when < CALM {
            let (who, down) = (random.random_range(0..self.instances), Duration::from_secs(random.random_range(0..20)));
            self.events.push((when, Event::Kill { who, down }));
            when += Duration::from_secs(random.random_range(60..600));
        }
    }

    /// All but the last are stopped one after another, each when the calls of the one before are given up, and continued
    /// together.
    pub(super) fn stop_one_after_another(&mut self, random: &mut SmallRng, when_granted: bool) {
        let others = self.instances as u64 - 1;
        let mut when = Duration::from_secs(random.random_range(30..60));
        while when < CALM && others > 0 {
            // Their calls were given up, and have left every window of a minute.
            let end = when + Duration::from_secs(50 * others + 70 + random.random_range(0..20));
            for who in 0..others {
                let begins = when + Duration::from_secs(50 * who + random.random_range(0..5));
                let who = usize::try_from(who).unwrap();
                let event = if when_granted {
                    Event::StopWhenGranted { who, until: end }
                } else {
                    Event::Stop { who: vec![who], lasts: end - begins }
                };
                self.events.push((begins, event));
            }
            when = end + Duration::from_secs(random.random_range(60..300));
        }
        self.events.sort_by_key(|(when, _)| *when);
    }

    /// What goes wrong between one instance and the partition.
    pub(super) fn log_of(&self, who: usize) -> LogFaults {
        let behind = self.behind.filter(|_| who + 1 < self.instances);
        LogFaults { fetch: behind.unwrap_or(self.log.fetch), ..self.log }
    }

    /// Whether journal time is off, as after a jump of the broker's clock: what is told of pauses and open questions by it is
    /// off then too.
    pub(super) fn journal_time_is_off(&self) -> bool {
        self.own_stamps || self.steps.iter().any(|(_, by)| *by > 0)
    }
}

struct Draw(SmallRng);

impl Draw {
    /// Whether a kind of fault is in this run.
    fn has(&mut self) -> bool {
        self.0.random_bool(0.4)
    }

    /// How likely each single one is, if at all.
    fn probability(&mut self, most: f64) -> f64 {
        if self.has() { self.0.random_range(0.0..most) } else { 0.0 }
    }

    fn when(&mut self) -> Duration {
        Duration::from_secs(20) + (CALM - Duration::from_secs(20)).mul_f64(self.0.random())
    }

    /// Short ones as often as long ones.
    fn between(&mut self, shortest: f64, longest: f64) -> Duration {
        Duration::from_secs_f64(shortest * (longest / shortest).powf(self.0.random()))
    }

    fn log(&mut self) -> LogFaults {
        let typical = Duration::from_millis([2, 10, 100, 800][self.0.random_range(0..4_usize)]);
        LogFaults {
            append: Latency::HeavyTail { typical },
            fetch: Latency::HeavyTail { typical: typical / 2 },
            acknowledgement_lost: self.probability(0.05),
            lost: self.probability(0.05),
            late: self.probability(0.02),
            repeated: self.probability(0.1),
            killed: self.probability(0.003),
            stopped: self.probability(0.002),
        }
    }

    fn network(&mut self) -> NetworkFaults {
        let typical = Duration::from_millis([20, 200, 1_500, 6_000][self.0.random_range(0..4_usize)]);
        NetworkFaults {
            way: Latency::HeavyTail { typical },
            slow: self.probability(0.3),
            broken: self.probability(0.2),
            refused: self.probability(0.1),
            killed: self.probability(0.005),
            stopped: self.probability(0.02),
        }
    }

    /// One, or several at once.
    fn some_of(&mut self, instances: usize) -> Vec<usize> {
        let all = self.0.random_bool(0.3);
        let one = self.0.random_range(0..instances);
        (0..instances).filter(|who| all || *who == one).collect()
    }

    fn stops(&mut self, plan: &mut Plan) {
        if self.0.random_bool(0.1) {
            let when_granted = self.0.random();
            plan.stop_one_after_another(&mut self.0, when_granted);
        }
        if !self.has() {
            return;
        }
        for _ in 0..self.0.random_range(1..20) {
            let (who, lasts) = (self.some_of(plan.instances), self.between(1.0, 600.0));
            plan.events.push((self.when(), Event::Stop { who, lasts }));
        }
    }

    fn kills(&mut self, plan: &mut Plan) {
        if self.has() {
            for _ in 0..self.0.random_range(1..20) {
                let (who, down) = (self.0.random_range(0..plan.instances), self.between(0.1, 120.0));
                plan.events.push((self.when(), Event::Kill { who, down }));
            }
        }
        if self.0.random_bool(0.2) {
            // A crash loop: every second for a minute.
            let (who, begins) = (self.0.random_range(0..plan.instances), self.when());
            for second in 0..60 {
                let when = begins + Duration::from_secs(second);
                plan.events.push((when, Event::Kill { who, down: Duration::from_millis(self.0.random_range(0..900)) }));
            }
        }
    }

    fn outages(&mut self, plan: &mut Plan) {
        if self.has() {
            for _ in 0..self.0.random_range(1..8) {
                let (who, lasts) = (self.some_of(plan.instances), self.between(0.5, 120.0));
                plan.events.push((self.when(), Event::Cut { who, lasts }));
            }
        }
        if self.0.random_bool(0.2) {
            plan.events.push((self.when(), Event::Pause { lasts: self.between(20.0, 300.0) }));
        }
        if self.0.random_bool(0.2) {
            plan.events.push((self.when(), Event::Outage { lasts: self.between(20.0, 300.0) }));
        }
    }

    fn clock(&mut self, plan: &mut Plan) {
        if self.0.random_bool(0.2) {
            for _ in 0..self.0.random_range(1..4) {
                let back = i64::try_from(self.between(0.01, 240.0).as_millis()).unwrap();
                plan.steps.push((self.when(), -back));
            }
        }
        if self.0.random_bool(0.2) {
            let (when, by) = (self.when(), self.between(1.0, 10_800.0));
            plan.steps.push((when, i64::try_from(by.as_millis()).unwrap()));
            // A documented limit: nobody starts within a window's length after it.
            plan.log.killed = 0.0;
            plan.network.killed = 0.0;
            let starts = |event: &Event, at: Duration| match event {
                Event::Kill { down, .. } => Some(at + *down + Duration::from_secs(10)),
                _ => None,
            };
            plan.events.retain(|(at, event)| starts(event, *at).is_none_or(|up| up < when || *at > when + UNSEEN));
        }
    }
}
