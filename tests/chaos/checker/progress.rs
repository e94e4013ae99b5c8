//! I8: when a fault is over, something goes on within a minute.

use super::{super::history::FaultKind, Judgement, Kind, facts::Facts};

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    count(facts, judgement);
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
                std::time::Duration::from_nanos(wait)
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
        (FaultKind::EndHeld, "ends of transactions held"),
        (FaultKind::EndLost, "ends of transactions unanswered"),
        (FaultKind::OffsetsCopied, "offsets of transactions copied"),
    ] {
        judgement.figure(name, facts.faults.iter().filter(|fault| fault.kind == kind).count());
    }
}
