//! One instance through all its lives: the whole core over a simulated log and network, killed and started again.

use std::{convert::Infallible, sync::Arc, time::Duration};

use alert_ips::{
    clock::Clock,
    daemon::journal::{self, KafkaJournal},
    defender::account::{Account, AccountHandle, Reporting},
    domain::phase::Phase,
    observe::{health::Health, metrics::Metrics},
    sim::Settings,
};
use jiff::SignedDuration;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{
    gate::Gate,
    load::Asker,
    log::{Link, SimLog},
    network::SimNetwork,
    run::World,
};
use crate::world::{START, defaults};

/// Lives until the run ends; what it was asked is handed back.
pub(super) async fn live(world: Arc<World>, who: usize, mut asker: Asker, seed: u64) -> Asker {
    let mut random = SmallRng::seed_from_u64(seed);
    loop {
        let gate = Gate::default();
        world.begin_life(who, &gate);
        // Its clocks are its own.
        let off = SignedDuration::from_millis(random.random_range(-5_000..5_000));
        let wall = START + SignedDuration::try_from(world.elapsed()).unwrap() + off;
        let clock = Clock::following_tokio(wall);
        let (account, mut task, _phase) = start(&world, who, &gate, &clock, random.random());
        let down = tokio::select! {
            biased;
            () = world.over() => return asker,
            Err(failed) = &mut task => std::panic::resume_unwind(failed.into_panic()),
            down = gate.killed() => down,
            never = ask(&mut asker, &account, &clock) => match never {},
            never = set(&clock, world.plan.wall_steps, !seed) => match never {},
        };
        tokio::select! {
            biased;
            () = world.over() => return asker,
            () = sleep(down) => {}
        }
    }
}

async fn ask(asker: &mut Asker, account: &AccountHandle, clock: &Clock) -> Infallible {
    asker.ask(account, clock).await
}

/// Sets the host's wall clock now and then, by up to a day.
async fn set(clock: &Clock, steps: bool, seed: u64) -> Infallible {
    let mut random = SmallRng::seed_from_u64(seed);
    if !steps {
        return std::future::pending().await;
    }
    loop {
        sleep(Duration::from_secs(random.random_range(60..1_200))).await;
        let most = [2_000, 60_000, 86_400_000][random.random_range(0..3_usize)];
        clock.step_wall(SignedDuration::from_millis(random.random_range(-most..=most)));
    }
}

/// Where questions are put, the process, and its phase.
type Life = (AccountHandle, JoinHandle<()>, watch::Sender<Phase>);

/// Begins one life.
fn start(world: &World, who: usize, gate: &Gate, clock: &Clock, seed: u64) -> Life {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut config = defaults(&Settings::new(seed));
    config.instance = name(who).into();
    world.plan.configure(&mut config, who, world.elapsed());
    world.defect.configure(&mut config);
    let begin = journal::replay_from(config.reuse_for);
    let partition = world.partition(who);
    let link = Link {
        partition: partition.clone(),
        gate: gate.clone(),
        reachable: world.reachable(who),
        faults: world.plan.log_of(who),
        calm: world.calm(),
        stamps: world.plan.own_stamps.then(|| clock.clone()),
        seed: random.random(),
    };
    let (log, events) = SimLog::open(link, world.defect.start(begin, partition));
    let (log, events, claims) = world.defect.tamper(log, events, partition, who);
    let (written, remembers) = (partition.clone(), world.defect.remembers_that_it_worked());
    let worked_before = Box::new(move || {
        let worked = remembers && written.was_written();
        Box::pin(async move { Ok(worked) }) as _
    });
    let journal = KafkaJournal::new(log, events, begin, clock.clone(), worked_before);
    let network = SimNetwork {
        sim: world.sim.clone(),
        gate: gate.clone(),
        faults: world.plan.network,
        calm: world.calm(),
        flights: world.flights.clone(),
        instance: who,
        random: SimNetwork::random(random.random()),
    };
    let transport = Arc::new(world.defect.transport(network, world, claims));
    let health = Health::new(clock.clone());
    let reporting = Reporting {
        metrics: Metrics::new(START, []).account("test"),
        health: health.part("account"),
        pulse: health.pulse("account"),
    };
    let (task, account) = Account::new(config, clock.clone(), journal, transport, reporting, random.random());
    let (phase, phases) = watch::channel(Phase::Running);
    (account, tokio::spawn(gate.clone().hold(task.run(phases))), phase)
}

/// What it calls itself.
pub(super) fn name(who: usize) -> String {
    format!("host-{who}")
}

/// How soon after each other the instances start.
pub(super) fn stagger(random: &mut SmallRng) -> Duration {
    Duration::from_millis(random.random_range(0..10_000))
}
