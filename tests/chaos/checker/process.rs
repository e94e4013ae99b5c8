//! What the processes used, and how they ended.

use super::{Judgement, Kind, facts::Facts};

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
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
