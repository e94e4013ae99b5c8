//! What is done to the fleet, drawn from one seed: which fault, to whom, how long, and how long after the one before.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use super::history::FaultKind;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// So often each kind of fault comes at least.
    pub each: usize,
    /// Faults beside these, half of them kills.
    pub more: usize,
    /// The mean pause between two faults.
    pub pause: Duration,
    pub longest_stop: Duration,
    /// Whether there are transactions.
    pub transactions: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub pause: Duration,
    pub kind: FaultKind,
    /// Of the instances or the brokers, the one with this number, modulo how many there are.
    pub target: usize,
    /// Until the next life begins, or until it may go on.
    pub lasts: Duration,
}

impl Extent {
    pub(crate) fn kinds(self) -> impl Iterator<Item = FaultKind> {
        let of_transactions = FaultKind::OF_TRANSACTIONS.into_iter().filter(move |_| self.transactions);
        FaultKind::ALWAYS.into_iter().chain(of_transactions)
    }
}

pub(crate) fn draw(seed: u64, extent: Extent) -> Vec<Planned> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut kinds: Vec<FaultKind> = extent.kinds().flat_map(|kind| vec![kind; extent.each]).collect();
    for _ in 0..extent.more {
        let others = [FaultKind::Term, FaultKind::Stop, FaultKind::Cut, FaultKind::Hold, FaultKind::Reload];
        let other = others[rng.random_range(0..others.len())];
        kinds.push(if rng.random() { FaultKind::Kill } else { other });
    }
    kinds.shuffle(&mut rng);
    let mut stops = 0;
    let mut schedule: Vec<_> = kinds
        .into_iter()
        .map(|kind| {
            stops += usize::from(kind == FaultKind::Stop);
            Planned {
                pause: exponential(&mut rng, extent.pause),
                kind,
                target: rng.random_range(0..6),
                lasts: lasts(&mut rng, kind, stops, extent.longest_stop),
            }
        })
        .collect();
    set_clocks(&mut rng, extent, &mut schedule);
    schedule
}

/// Somewhere among the others, of one instance after the other. Drawn last, so that the others of a seed are what they were.
fn set_clocks(rng: &mut SmallRng, extent: Extent, schedule: &mut Vec<Planned>) {
    for target in 0..2 * extent.each {
        let (pause, kind, lasts) = (exponential(rng, extent.pause), FaultKind::ClockSet, Duration::ZERO);
        schedule.insert(rng.random_range(0..=schedule.len()), Planned { pause, kind, target, lasts });
    }
}

/// Of the stops each second is shorter than any session, and each fourth as long as may be.
fn lasts(rng: &mut SmallRng, kind: FaultKind, stops: usize, longest_stop: Duration) -> Duration {
    match kind {
        FaultKind::Stop if stops.is_multiple_of(2) => Duration::from_secs(5),
        FaultKind::Stop if stops % 4 == 1 => longest_stop,
        FaultKind::Stop => rng.random_range(Duration::from_secs(12)..=longest_stop.max(Duration::from_secs(12))),
        FaultKind::Cut | FaultKind::Hold => Duration::from_secs([2, 8, 20][rng.random_range(0..3)]),
        FaultKind::BrokerKill | FaultKind::BrokerTerm => Duration::from_millis(rng.random_range(1_000..8_000)),
        FaultKind::Kill | FaultKind::Term => Duration::from_millis(rng.random_range(0..4_000)),
        FaultKind::Reload | FaultKind::ClockSet => Duration::ZERO,
        // A request that is held is waited for, is given up and made out, and comes when the brokers have ended it long since.
        FaultKind::EndHeld => Duration::from_secs([8, 20, 40][rng.random_range(0..3)]),
        // Longer than they are waited for.
        FaultKind::EndLost => Duration::from_secs(30),
        // It is sent again after half a second, and a transaction or some more end meanwhile.
        FaultKind::OffsetsCopied => Duration::from_secs(rng.random_range(2..=5)),
    }
}

/// At most four times the mean.
fn exponential(rng: &mut SmallRng, mean: Duration) -> Duration {
    let uniform: f64 = rng.random_range(f64::EPSILON..1.0);
    mean.mul_f64((-uniform.ln()).min(4.0))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SHORT: Extent = Extent {
        each: 2,
        more: 20,
        pause: Duration::from_secs(5),
        longest_stop: Duration::from_secs(30),
        transactions: false,
    };

    #[test]
    fn one_seed_gives_one_schedule() {
        assert_eq!(draw(3, SHORT), draw(3, SHORT));
        assert_ne!(draw(3, SHORT), draw(4, SHORT));
    }

    #[test]
    fn every_kind_comes_at_least_so_often() {
        for (seed, transactions) in (0..50).zip([false, true].into_iter().cycle()) {
            let extent = Extent { transactions, ..SHORT };
            let schedule = draw(seed, extent);
            let mut counts = HashMap::new();
            for planned in &schedule {
                *counts.entry(planned.kind).or_insert(0) += 1;
            }
            let many = if transactions { 46 } else { 40 };
            assert!(schedule.len() == many && extent.kinds().all(|kind| counts[&kind] >= 2), "{counts:?}");
            assert_eq!((counts[&FaultKind::ClockSet], counts.contains_key(&FaultKind::EndHeld)), (4, transactions));
            let stops: Vec<_> = schedule.iter().filter(|planned| planned.kind == FaultKind::Stop).collect();
            assert!(stops.iter().any(|stop| stop.lasts == SHORT.longest_stop), "{stops:?}");
        }
    }
}
