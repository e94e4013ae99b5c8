//! What the service saw: no window over its limit, no call that nobody needed, nothing but alerts' addresses asked for.

use std::collections::BTreeMap;

use super::{Judgement, Kind, facts::Facts};

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    windows(facts, judgement);
    let mut asked: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, call) in &facts.calls {
        let alert = call.path.strip_prefix("/api/alerts/").and_then(|rest| rest.strip_suffix("/ips"));
        match alert.filter(|alert| facts.answers.contains_key(alert)) {
            Some(alert) => *asked.entry(alert).or_default() += 1,
            None => judgement.wrong(Kind::StrangeCall, *at, format!("{} was asked for", call.path)),
        }
    }
    too_many(facts, &asked, judgement);
}

/// R1, by brute force: of `calls` + 1 calls in a row, the last is at least a period after the first.
fn windows(facts: &Facts<'_>, judgement: &mut Judgement) {
    let mut times: Vec<u64> = facts.calls.iter().map(|(at, _)| *at).collect();
    times.sort_unstable();
    for limit in &facts.terms.limits {
        let period = limit.per_ms * 1_000_000;
        for window in times.windows(limit.calls + 1) {
            let (first, last) = (window[0], window[limit.calls]);
            if last - first < period {
                let words = format!(
                    "{} calls within {:?}, where {} ms allow {}",
                    limit.calls + 1,
                    std::time::Duration::from_nanos(last - first),
                    limit.per_ms,
                    limit.calls
                );
                judgement.wrong(Kind::WindowOver, last, words);
            }
        }
    }
}

/// R5. Beside one call for each alert that was asked about, and what its answers cost by plan: no answer was written down of
/// what was on the wire at a kill, at a stop for longer than a claim and its call may live, or while the brokers, or the
/// way to them, were away.
fn too_many(facts: &Facts<'_>, asked: &BTreeMap<&str, usize>, judgement: &mut Judgement) {
    let planned = |alert: &str| 1 + facts.answers.get(alert).map_or(0, |answer| answer.earlier);
    let plan: usize = asked.keys().map(|alert| planned(alert)).sum();
    let interruptions = facts.faults.iter().filter(|fault| fault.interrupts(facts.terms.claim_ms)).count();
    let most = plan + facts.terms.max_in_flight * interruptions;
    let calls: usize = asked.values().sum();
    judgement.figure("alerts asked about", asked.len());
    judgement.figure("calls", calls);
    judgement.figure("calls by plan", plan);
    judgement.figure("calls at most", most);
    if calls > most {
        let words =
            format!("{calls} calls, where {plan} by plan and {interruptions} interruptions make at most {most}");
        judgement.wrong(Kind::TooManyCalls, facts.end, words);
    }
}
