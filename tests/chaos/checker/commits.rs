//! What the group had committed at every sample: never ahead of what could be read then, and never less than before.
//!
//! A broker that takes over the group has the last commits, but answers a plain question, as the sampler's is, from what it
//! knows to be replicated, and learns of the last of it a moment later (Kafka's `CoordinatorLoaderImpl` and
//! `GroupCoordinatorService.fetchOffsets`). So shortly after a broker went away a sample may be older than the one before. The
//! daemon asks for stable offsets, which are answered when all that there is is replicated.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::history::{At, Sample, Topic},
    Judgement, Kind, Violation,
    facts::{Facts, tell},
    metadata,
};

/// How long after a broker went away another may take over the group, and for how long that one may answer from before.
const TAKEN_OVER: At = 30_000_000_000;
const CATCHES_UP: At = 2_000_000_000;

pub(super) fn check(facts: &Facts<'_>, judgement: &mut Judgement) {
    let mut partitions: BTreeMap<i32, Partition> = BTreeMap::new();
    for (partition, offset) in facts.seeded.keys() {
        partitions.entry(*partition).or_default().unseen.insert(*offset);
    }
    let mut ends: BTreeMap<(Topic, i32), i64> = BTreeMap::new();
    let mut judged = 0;
    for (at, sample) in &facts.samples {
        for end in &sample.ends {
            let visible = if facts.is_exactly_once() { end.written } else { end.stable };
            let known = ends.entry((end.topic, end.partition)).or_default();
            *known = visible.max(*known);
        }
        for (number, next, text) in &sample.committed {
            let partition = partitions.entry(*number).or_default();
            let Some(beyond) = metadata::settled(*next, text) else {
                let words = format!("partition {number} is committed at {next} with the metadata \"{text}\"");
                judgement.wrong(Kind::MetadataUnreadable, *at, words);
                continue;
            };
            partition.check_order(*number, *at, (*next, &beyond), is_taken_over(facts, *at), judgement);
            for (kind, range) in std::iter::once((Kind::CommitAhead, i64::MIN..*next))
                .chain(beyond.into_iter().map(|range| (Kind::MetadataAhead, range)))
            {
                let settled: Vec<i64> = partition.unseen.range(range).copied().collect();
                for offset in settled {
                    if let Some(problem) = ahead(facts, sample, &ends, (*number, offset)) {
                        // Told once.
                        partition.unseen.remove(&offset);
                        let words =
                            format!("the record at {number}/{offset} is committed (offset {next}), but {problem}");
                        judgement.wrong(kind, *at, words);
                    } else {
                        judged += 1;
                        partition.unseen.remove(&offset);
                    }
                }
            }
        }
    }
    // What is not even there was told, and so was that nobody looked.
    let is_told = |violation: &Violation| matches!(violation.kind, Kind::Undone | Kind::Evidence);
    if !judgement.violations.iter().any(is_told) {
        for (number, partition) in &partitions {
            partition.check_end(*number, facts.end, judgement);
        }
    }
    let unsettled = partitions.values_mut().filter_map(|partition| partition.back.take());
    judgement.violations.extend(unsettled);
    judgement.figure("samples", facts.samples.len());
    let old = partitions.values().map(|partition| partition.old).sum();
    judgement.figure("samples from before, of a broker that took over", old);
    let gaps = facts.samples.windows(2).map(|pair| pair[1].0 - pair[0].0);
    judgement.figures.insert("longest time between two samples, ms", gaps.max().unwrap_or_default() / 1_000_000);
    judgement.figure("records judged at their commit", judged);
}

fn is_taken_over(facts: &Facts<'_>, at: At) -> bool {
    let mut gone = facts.faults.iter().filter(|fault| fault.is_of_a_broker());
    gone.any(|fault| fault.begin <= at && at <= fault.end + TAKEN_OVER)
}

#[derive(Default)]
struct Partition {
    /// Records that no sample has had settled so far.
    unseen: BTreeSet<i64>,
    committed: i64,
    /// Told to be settled beyond the committed offset.
    settled: BTreeSet<i64>,
    /// A sample that may be an old one; if it isn't, this is wrong.
    back: Option<Violation>,
    /// Samples that were old.
    old: usize,
}

impl Partition {
    fn check_order(
        &mut self,
        number: i32,
        at: At,
        (next, beyond): (i64, &[std::ops::Range<i64>]),
        is_taken_over: bool,
        judgement: &mut Judgement,
    ) {
        let now: BTreeSet<i64> = beyond.iter().cloned().flatten().collect();
        if let Some((kind, words)) = self.less_than_before(number, next, &now) {
            let back = self.back.get_or_insert(Violation { kind, at, words });
            if is_taken_over && at - back.at < CATCHES_UP {
                self.old += 1;
                return;
            }
            judgement.violations.extend(self.back.take());
        }
        self.back = None;
        (self.committed, self.settled) = (next, now);
    }

    fn check_end(&self, number: i32, end: At, judgement: &mut Judgement) {
        let Some(first) = self.unseen.first() else { return };
        let count = self.unseen.len();
        let words = format!("{count} records of partition {number} were never committed, the first at {first}");
        judgement.wrong(Kind::Uncommitted, end, words);
    }

    fn less_than_before(&self, number: i32, next: i64, settled: &BTreeSet<i64>) -> Option<(Kind, String)> {
        if next < self.committed {
            let words = format!("partition {number} went back from {} to {next}", self.committed);
            return Some((Kind::OffsetBack, words));
        }
        let forgotten: Vec<_> = self.settled.range(next..).filter(|offset| !settled.contains(offset)).collect();
        let first = forgotten.first()?;
        let count = forgotten.len();
        let words =
            format!("partition {number}, committed at {next}, no longer has {first} settled ({count} offsets in all)");
        Some((Kind::Forgotten, words))
    }
}

/// What of a settled record could not be read when the sample was taken. What has no known end is not judged.
fn ahead(facts: &Facts<'_>, sample: &Sample, ends: &BTreeMap<(Topic, i32), i64>, place: (i32, i64)) -> Option<String> {
    let is_known = |topic, partition| sample.ends.iter().any(|end| (end.topic, end.partition) == (topic, partition));
    Facts::parts(facts.seeded[&place]).find_map(|part| {
        let copies = facts.copies_of(place, part);
        let visible = copies.iter().any(|copy| {
            let (topic, partition, offset) = copy.position;
            !is_known(topic, partition) || ends.get(&(topic, partition)).is_some_and(|end| offset < *end)
        });
        if visible {
            return None;
        }
        Some(copies.first().map_or_else(
            || format!("its {part:?} is nowhere"),
            |copy| format!("{} was not there to be read yet", tell(copy.position)),
        ))
    })
}
