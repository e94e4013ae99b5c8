//! I8: when a fault is over, something goes on within a minute; and no partition stands still while others go on.

use std::{collections::BTreeMap, time::Duration};

use super::{
    super::history::{At, FaultKind},
    Judgement, Kind,
    facts::Facts,
};

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    count(facts, judgement);
    goes_on(facts, judgement);
    starved(facts, judgement);
}

/// Something of each partition that has something left, within twice the time in which something goes on after a fault. While
/// faults are done, and for that time after them, nothing is promised.
fn starved(facts: &Facts<'_>, judgement: &mut Judgement) {
    let recovery = facts.terms.recovery_ms * 1_000_000;
    let undisturbed = facts.faults.iter().map(|fault| fault.end + recovery).max().unwrap_or(0);
    let mut news: BTreeMap<i32, Vec<At>> = BTreeMap::new();
    for ((partition, _), parts) in &facts.copies {
        news.entry(*partition).or_default().extend(parts.values().flatten().map(|copy| copy.at));
    }
    for times in news.values_mut() {
        times.sort_unstable();
    }
    let mut longest = 0;
    for (partition, times) in &news {
        for pair in times.windows(2) {
            let since = pair[0].max(undisturbed);
            let wait = pair[1].saturating_sub(since);
            let mut others = news.iter().filter(|(other, _)| *other != partition).flat_map(|(_, times)| times);
            if wait <= longest || !others.any(|at| (since..pair[1]).contains(at)) {
                continue;
            }
            longest = wait;
            if wait > 2 * recovery {
                let words = format!(
                    "partition {partition} stood still for {:?} while others went on and nothing was done to the fleet",
                    Duration::from_nanos(wait)
                );
                judgement.wrong(Kind::Starved, pair[1], words);
            }
        }
    }
    judgement.figures.insert("longest standstill of one partition without a fault, ms", longest / 1_000_000);
}

fn goes_on(facts: &Facts<'_>, judgement: &mut Judgement) {
    let recovery = facts.terms.recovery_ms * 1_000_000;
    let mut news: Vec<u64> =
        facts.copies.values().flat_map(|parts| parts.values()).flatten().map(|copy| copy.at).collect();
    news.sort_unstable();
    let Some(last_news) = news.last().copied() else { return };
    let mut slowest = 0;
    for fault in &facts.faults {
        let limit = fault.end + recovery;
        // While another fault lasts, or begins within the time, nothing is promised.
        let others = facts.faults.iter().filter(|other| other.begin != fault.begin || other.target != fault.target);
        let is_alone = others.into_iter().all(|other| other.end <= fault.end || other.begin >= limit);
        let next = news.partition_point(|at| *at <= fault.end);
        if !is_alone || fault.end >= last_news {
            continue;
        }
        let wait = news[next] - fault.end;
        slowest = slowest.max(wait);
        if wait > recovery {
            let words = format!(
                "after {:?} of {} nothing was published for {:?}",
                fault.kind,
                fault.target,
                Duration::from_nanos(wait)
            );
            judgement.wrong(Kind::NoProgress, limit, words);
        }
    }
    judgement.figures.insert("longest wait for progress after a fault, ms", slowest / 1_000_000);
}

/// How often each fault was done.
fn count(facts: &Facts<'_>, judgement: &mut Judgement) {
    for (kind, name) in [
        (FaultKind::Kill, "kill -9"),
        (FaultKind::Term, "SIGTERM"),
        (FaultKind::Stop, "SIGSTOP"),
        (FaultKind::BrokerKill, "kill -9 of a broker"),
        (FaultKind::BrokerTerm, "SIGTERM to a broker"),
        (FaultKind::Cut, "connections cut"),
        (FaultKind::Hold, "connections held"),
        (FaultKind::Reload, "SIGHUP"),
        (FaultKind::ClockSet, "wall clocks set"),
        (FaultKind::EndHeld, "ends of transactions held"),
        (FaultKind::EndLost, "ends of transactions unanswered"),
        (FaultKind::OffsetsCopied, "offsets of transactions copied"),
    ] {
        judgement.figure(name, facts.faults.iter().filter(|fault| fault.kind == kind).count());
    }
}
