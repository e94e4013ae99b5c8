//! What was answered comes out soon: half of it within [`SOON`], whatever is done to the fleet meanwhile.

use std::{collections::HashMap, time::Duration};

use super::{
    super::history::At,
    Judgement, Kind,
    facts::{Facts, Part},
};

/// Two calls that open and end a transaction, and room for brokers that are away.
const SOON: Duration = Duration::from_secs(2);

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    let mut waits = waits(facts);
    waits.sort_unstable();
    let Some(median) = waits.get(waits.len() / 2).copied() else { return };
    let late = waits.get(waits.len() * 99 / 100).copied().unwrap_or(median);
    judgement.figures.insert("from answer to output, median, ms", median / 1_000_000);
    judgement.figures.insert("from answer to output, 99th percentile, ms", late / 1_000_000);
    let median = Duration::from_nanos(median);
    if median > SOON {
        judgement.wrong(Kind::Late, facts.end, format!("half of all answers came out later than {median:?}"));
    }
}

/// For each alert that came out alone: how long after the last call that was answered before. What was lost with a process
/// is asked for again, and does not count from its first answer.
fn waits(facts: &Facts<'_>) -> Vec<u64> {
    // A repeat is answered from before: of the records of an alert only the first one out counts.
    let mut out: HashMap<&str, At> = HashMap::new();
    for (place, seeded) in &facts.seeded {
        let [alert] = &seeded.alerts[..] else { continue };
        let Some(copy) = facts.copies_of(*place, Part::Output(0)).first() else { continue };
        let first = out.entry(&alert.id).or_insert(copy.at);
        *first = (*first).min(copy.at);
    }
    let mut answered: HashMap<&str, At> = HashMap::new();
    for (at, call) in facts.calls.iter().filter(|(_, call)| call.status == Some(200)) {
        let alert = call.path.strip_prefix("/api/alerts/").and_then(|rest| rest.strip_suffix("/ips"));
        let Some((alert, out)) = alert.and_then(|alert| out.get_key_value(alert)) else { continue };
        if at <= out {
            let last = answered.entry(alert).or_insert(*at);
            *last = (*last).max(*at);
        }
    }
    answered.into_iter().map(|(alert, answered)| out[alert] - answered).collect()
}
