//! What the processes used, and how they ended.

use super::{Judgement, Kind, facts::Facts};
use crate::history::Process;

/// The last third of a run may have a fourth more, at the median, than the first.
const MOST_GROWTH: u64 = 4;

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    check_growth(facts, judgement);
    let terms = facts.terms;
    let (mut memory, mut descriptors, mut threads) = (0, 0, 0);
    for (at, process) in &facts.processes {
        let used = [
            (Kind::Memory, "KiB of memory", process.memory_kib, terms.memory_kib, &mut memory),
            (Kind::Descriptors, "descriptors", process.descriptors, terms.descriptors, &mut descriptors),
            (Kind::Threads, "threads", process.threads, terms.threads, &mut threads),
        ];
        for (kind, what, value, most, worst) in used {
            // Each time that it is worse than before.
            if value > most && value > *worst {
                let words =
                    format!("{} (process {}) has {value} {what}, at most {most}", process.instance, process.pid);
                judgement.wrong(kind, *at, words);
            }
            *worst = value.max(*worst);
        }
    }
    judgement.figures.extend([("memory, KiB", memory), ("descriptors", descriptors), ("threads", threads)]);
    judgement.figure("producers given up", facts.given_up);
    if facts.given_up > facts.faults.len() {
        let words = format!("{} producers were given up, at {} faults", facts.given_up, facts.faults.len());
        judgement.wrong(Kind::Displaced, facts.end, words);
    }
    for end in &facts.ended {
        let late = end.asked.is_some_and(|asked| end.at - asked > terms.stop_ms * 1_000_000);
        let problem = match end.asked {
            _ if end.panicked => "panicked".to_owned(),
            None => format!("ended by itself with {:?}", end.code),
            Some(_) if end.code != Some(0) => format!("was asked to stop and ended with {:?}", end.code),
            Some(_) if late => format!("took more than {} ms to stop", terms.stop_ms),
            Some(_) => continue,
        };
        judgement.wrong(Kind::Exit, end.at, format!("{} {problem}", end.instance));
    }
}

/// Of the fleet as a whole: no process lives as long as the run.
fn check_growth(facts: &Facts<'_>, judgement: &mut Judgement) {
    let used = |of: fn(&Process) -> u64| facts.processes.iter().map(|(_, process)| of(process)).collect::<Vec<_>>();
    for (what, used) in
        [("descriptors", used(|process| process.descriptors)), ("threads", used(|process| process.threads))]
    {
        let third = used.len() / 3;
        let (before, after) = (median(&used[..third]), median(&used[used.len() - third..]));
        if after > before + before / MOST_GROWTH {
            let words = format!("{before} {what} at the median of the first third of the run, {after} of the last");
            judgement.wrong(Kind::Growing, facts.end, words);
        }
    }
}

fn median(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
