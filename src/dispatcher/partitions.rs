//! The assigned partitions: what is open in each, and what of it was committed.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use tokio_util::sync::CancellationToken;

use crate::{
    domain::{
        commit_point::CommitPoint,
        log_id,
        progress::Progress,
        record::{Epoch, Partition, Receipt},
        settled::Settled,
    },
    kafka::notice::PartitionOffsets,
};

/// Bytes kept for records that are on their way when reading was told to wait: at most ten batches of 256, each record a
/// fifth of a byte.
const ON_THEIR_WAY: usize = 512;

#[derive(Debug)]
pub(super) struct Partitions {
    assigned: HashMap<Partition, Assigned>,
    /// Bytes of a commit's metadata.
    most_metadata: usize,
    /// In which reading was told to wait.
    held: HashSet<Partition>,
    last_log: Log,
    /// Logs that ended since [`take_ended`](Partitions::take_ended).
    ended: Vec<Log>,
}

/// One log of one partition within one assignment: a record of an earlier one settles nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Log(u64);

impl Log {
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[derive(Debug)]
struct Assigned {
    epoch: Epoch,
    log: Log,
    progress: Progress,
    /// Cancelled once the partition is to be given up.
    leaving: CancellationToken,
    /// Whether there is more to commit than was asked last.
    is_due: bool,
    /// Whether reading waits for the oldest open records.
    is_held: bool,
}

/// What a record that was read is to its partition.
#[derive(Debug)]
pub(super) enum Opened {
    /// It is open, in this log, until that is to be given up.
    In(Log, CancellationToken),
    /// Whoever read the partition before has settled it.
    SettledBefore,
    /// It belongs to an earlier assignment.
    Stale,
}

impl Partitions {
    /// `most_metadata`: bytes that a commit of one partition may have beside the offset.
    pub(super) fn new(most_metadata: usize) -> Self {
        let (assigned, held) = (HashMap::new(), HashSet::new());
        // Beside it the log is told.
        let most_metadata = most_metadata.saturating_sub(log_id::SIGNED);
        Self { assigned, most_metadata, held, last_log: Log::default(), ended: Vec::new() }
    }

    /// `committed`: where those before left off.
    pub(super) fn assign(&mut self, partitions: Vec<Partition>, mut committed: Vec<CommitPoint>, epoch: Epoch) {
        for partition in partitions {
            let point = committed.iter().position(|point| point.partition == partition);
            let progress = point.map(|at| resumed(&committed.swap_remove(at))).unwrap_or_default();
            self.begin(partition, epoch, progress);
        }
    }

    /// These begin at their points, which are to be committed. What was open in them is finished; it settles nothing.
    pub(super) fn begin_anew(&mut self, points: Vec<CommitPoint>) {
        for point in points {
            self.assigned.remove(&point.partition);
            self.begin(point.partition.clone(), point.epoch, resumed(&point));
            self.due_again(&[point]);
        }
    }

    /// These are not there any more. What is open in them is finished; it settles nothing.
    pub(super) fn let_finish(&mut self, partitions: &[Partition]) {
        self.assigned.retain(|partition, _| !partitions.contains(partition));
    }

    /// Begins with nothing open; what was before ends.
    fn begin(&mut self, partition: Partition, epoch: Epoch, progress: Progress) {
        self.last_log = self.last_log.next();
        let leaving = CancellationToken::new();
        let assigned = Assigned { epoch, log: self.last_log, progress, leaving, is_due: false, is_held: false };
        let earlier = self.assigned.insert(partition, assigned);
        self.ended.extend(earlier.map(|earlier| earlier.log));
    }

    /// Logs whose records are of no concern any more: given up, or begun anew.
    pub(super) fn take_ended(&mut self) -> Vec<Log> {
        mem::take(&mut self.ended)
    }

    /// Ends their logs. Returns how far they were settled.
    pub(super) fn give_up(&mut self, partitions: &[Partition]) -> Vec<CommitPoint> {
        let gone = partitions.iter().filter_map(|partition| {
            let assigned = self.assigned.remove(partition)?;
            self.ended.push(assigned.log);
            point(&assigned.progress, assigned.epoch, partition, self.most_metadata)
        });
        gone.collect()
    }

    /// Opens a record.
    pub(super) fn open(&mut self, receipt: &Receipt) -> Opened {
        let Receipt { partition, offset, epoch } = receipt;
        let current = self.assigned.get(partition).filter(|assigned| assigned.epoch == *epoch);
        let Some(assigned) = current else { return Opened::Stale };
        if assigned.progress.begins_anew(*offset) {
            tracing::warn!(%partition, offset, "the partition begins anew: its topic was recreated or lost its end; reading it from here");
            self.begin(partition.clone(), *epoch, Progress::default());
        }
        let Some(assigned) = self.assigned.get_mut(partition) else { return Opened::Stale };
        // Also where nothing was settled yet: where a group begins is decided once.
        let moved = assigned.progress.watermark();
        let opened = assigned.progress.open(*offset);
        assigned.is_due |= assigned.progress.watermark() != moved;
        if opened { Opened::In(assigned.log, assigned.leaving.clone()) } else { Opened::SettledBefore }
    }

    pub(super) fn settle(&mut self, receipt: &Receipt, log: Log) {
        if let Some(assigned) = self.settled(receipt, log) {
            assigned.is_due = true;
        }
    }

    /// As [`settle`](Self::settle), where a commit that is made says so.
    pub(super) fn settled_in_transaction(&mut self, receipt: &Receipt, log: Log) {
        self.settled(receipt, log);
    }

    /// `None`: the record is of a log that has ended.
    fn settled(&mut self, receipt: &Receipt, log: Log) -> Option<&mut Assigned> {
        let assigned = self.assigned.get_mut(&receipt.partition).filter(|assigned| assigned.log == log)?;
        assigned.progress.settle(receipt.offset);
        Some(assigned)
    }

    /// These are to be given up: in them no calls are begun any more. Returns their logs.
    pub(super) fn begin_to_leave(&self, partitions: &[Partition]) -> Vec<Log> {
        let assigned = partitions.iter().filter_map(|partition| self.assigned.get(partition));
        assigned
            .map(|assigned| {
                assigned.leaving.cancel();
                assigned.log
            })
            .collect()
    }

    /// How far partitions are settled once these records are; and where one was begun and that is not committed yet. Says
    /// of each record whether a commit can tell that it is settled: the others wait for the next.
    pub(super) fn transact(&mut self, records: &[(&Receipt, Log)]) -> (Vec<CommitPoint>, Vec<bool>) {
        // What settles nothing need not be told.
        let settles_nothing = |(_, log): &(&Receipt, Log)| !self.assigned.values().any(|known| known.log == *log);
        let (mut points, mut told) = (Vec::new(), records.iter().map(settles_nothing).collect::<Vec<_>>());
        for (partition, assigned) in &mut self.assigned {
            let of_it = |(_, (receipt, log)): &(usize, &(&Receipt, Log))| {
                receipt.partition == *partition && *log == assigned.log
            };
            let mut these: Vec<_> =
                records.iter().enumerate().filter(of_it).map(|(n, (receipt, _))| (receipt.offset, n)).collect();
            if these.is_empty() && !assigned.is_due {
                continue;
            }
            these.sort_unstable();
            let (settles, progress) = settling(&assigned.progress, &these, self.most_metadata);
            if settles == 0 && !assigned.is_due {
                continue;
            }
            these.iter().take(settles).for_each(|(_, n)| told[*n] = true);
            assigned.is_due = false;
            points.extend(point(&progress, assigned.epoch, partition, self.most_metadata));
        }
        (points, told)
    }

    /// These were not committed.
    pub(super) fn due_again(&mut self, points: &[CommitPoint]) {
        for point in points {
            if let Some(assigned) = self.assigned.get_mut(&point.partition).filter(|known| known.epoch == point.epoch) {
                assigned.is_due = true;
            }
        }
    }

    /// What was settled and not yet asked to be committed; counts as asked from now on.
    pub(super) fn due(&mut self) -> Vec<CommitPoint> {
        let due = self.assigned.iter_mut().filter_map(|(partition, assigned)| {
            if mem::take(&mut assigned.is_due) {
                point(&assigned.progress, assigned.epoch, partition, self.most_metadata)
            } else {
                None
            }
        });
        due.collect()
    }

    /// The partitions in which reading is to wait until their oldest open records are settled, if others than before: what
    /// is settled beyond those could soon not be told in a commit, however the open records end.
    pub(super) fn held(&mut self) -> Option<HashSet<Partition>> {
        let full = self.most_metadata - ON_THEIR_WAY.min(self.most_metadata / 4);
        for (partition, assigned) in &mut self.assigned {
            let longest = assigned.progress.longest_text();
            // Not with each record: what was fetched ahead is thrown away.
            let is_held = longest > if assigned.is_held { full / 8 * 7 } else { full };
            if is_held && !assigned.is_held {
                tracing::warn!(
                    %partition, most = self.most_metadata,
                    "more is settled behind open records than a commit's metadata can tell (input.max_commit_metadata); \
                     reading waits until the oldest are settled"
                );
            }
            assigned.is_held = is_held;
        }
        let held =
            self.assigned.iter().filter(|(_, assigned)| assigned.is_held).map(|(partition, _)| partition.clone());
        let held: HashSet<_> = held.collect();
        if held == self.held {
            return None;
        }
        self.held.clone_from(&held);
        Some(held)
    }

    /// A commit failed: everything settled is due again.
    pub(super) fn commit_again(&mut self) {
        for assigned in self.assigned.values_mut() {
            assigned.is_due = true;
        }
    }

    /// Records not settled yet, for each of our partitions whose end is known.
    pub(super) fn lags(&self, offsets: &[PartitionOffsets]) -> Vec<(Partition, i64)> {
        let lags = offsets.iter().filter_map(|known| {
            let partition = Partition { topic: known.topic.as_str().into(), number: known.number };
            let assigned = self.assigned.get(&partition)?;
            let settled = assigned.progress.watermark().or(known.committed)?;
            Some((partition, (known.end? - settled).max(0)))
        });
        lags.collect()
    }
}

fn point(progress: &Progress, epoch: Epoch, partition: &Partition, most_metadata: usize) -> Option<CommitPoint> {
    let next = progress.watermark()?;
    let beyond = progress.settled().write(next, most_metadata);
    Some(CommitPoint { partition: partition.clone(), epoch, next, beyond })
}

/// The progress once these offsets are settled, which ascend: as many of them as can be told. Where earlier readers were
/// allowed more, none may be; but the oldest open one always is, with which the commit itself moves.
fn settling(progress: &Progress, offsets: &[(i64, usize)], most_metadata: usize) -> (usize, Progress) {
    let mut many = offsets.len();
    loop {
        let mut settled = progress.clone();
        offsets[..many].iter().for_each(|(offset, _)| settled.settle(*offset));
        let moves = many == 1 && settled.watermark() != progress.watermark();
        if many == 0 || moves || settled.is_told_in(most_metadata) {
            return (many, settled);
        }
        many /= 2;
    }
}

/// Goes on where another reader left off.
fn resumed(point: &CommitPoint) -> Progress {
    let CommitPoint { partition, next, beyond, .. } = point;
    let settled = Settled::read(*next, beyond).unwrap_or_else(|unreadable| {
        tracing::warn!(%partition, next, "{unreadable}");
        Settled::default()
    });
    Progress::resume(*next, settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(offset: i64) -> Receipt {
        Receipt { partition: Partition { topic: "in".into(), number: 0 }, offset, epoch: Epoch(1) }
    }

    fn opened(partitions: &mut Partitions, offset: i64) -> Log {
        match partitions.open(&receipt(offset)) {
            Opened::In(log, _) => log,
            other => panic!("{offset} is {other:?}"),
        }
    }

    fn assigned() -> Partitions {
        let mut partitions = Partitions::new(4_096);
        partitions.assign(vec![receipt(0).partition], Vec::new(), Epoch(1));
        partitions
    }

    #[test]
    fn only_news_is_due() {
        let mut partitions = assigned();
        assert_eq!(partitions.due(), []);
        let log = opened(&mut partitions, 7);
        assert_eq!(partitions.due()[0].next, 7);
        assert_eq!(partitions.due(), []);
        partitions.settle(&receipt(7), log);
        assert_eq!(partitions.due()[0].next, 8);
        partitions.commit_again();
        assert_eq!(partitions.due()[0].next, 8);
    }

    #[test]
    fn a_log_that_begins_anew_is_committed_from_its_own_beginning() {
        let mut partitions = assigned();
        let old = opened(&mut partitions, 3);
        opened(&mut partitions, 10);
        let new = opened(&mut partitions, 3);
        assert_eq!(partitions.take_ended(), [old]);
        partitions.settle(&receipt(3), old);
        assert_eq!(partitions.due()[0].next, 3, "a record of the old log settled one of the new");
        partitions.settle(&receipt(3), new);
        assert_eq!(partitions.due()[0].next, 4);
    }

    #[test]
    fn records_of_an_earlier_assignment_are_not_opened() {
        let mut partitions = assigned();
        partitions.assign(vec![receipt(0).partition], Vec::new(), Epoch(2));
        assert!(matches!(partitions.open(&receipt(1)), Opened::Stale));
        assert_eq!(partitions.give_up(&[receipt(0).partition]), []);
        assert_eq!(partitions.take_ended().len(), 2, "both logs ended");
    }

    #[test]
    fn whoever_takes_over_opens_only_what_was_open() {
        let mut first = assigned();
        let log = opened(&mut first, 7);
        (8..=10).for_each(|offset| assert_eq!(opened(&mut first, offset), log));
        for offset in [8, 10] {
            first.settle(&receipt(offset), log);
        }
        let committed = first.give_up(&[receipt(0).partition]);
        assert_eq!((committed[0].next, committed[0].beyond.as_str()), (7, "alert-ips/1:K"));

        let mut second = Partitions::new(4_096);
        second.assign(vec![receipt(0).partition], committed, Epoch(1));
        assert_eq!(second.due(), [], "nothing is new yet");
        let read = [7, 8, 9, 10, 11].map(|offset| matches!(second.open(&receipt(offset)), Opened::In(..)));
        assert_eq!(read, [true, false, true, false, true]);
    }

    #[test]
    fn metadata_of_others_costs_no_record() {
        let mut partitions = Partitions::new(4_096);
        let partition = receipt(0).partition;
        let beyond = "set by hand".to_owned();
        let committed = CommitPoint { partition: partition.clone(), epoch: Epoch(1), next: 7, beyond };
        partitions.assign(vec![partition], vec![committed], Epoch(1));
        assert!((7..10).all(|offset| matches!(partitions.open(&receipt(offset)), Opened::In(..))));
    }

    /// Else a commit that tells nothing new could stand for it, and a crash would have it done again.
    #[test]
    fn what_a_commit_can_not_tell_is_in_no_transaction_before_the_oldest_is() {
        // Those before were allowed more.
        let mut first = assigned();
        let log = opened(&mut first, 0);
        (1..400).for_each(|offset| assert_eq!(opened(&mut first, offset), log));
        (1..400).filter(|offset| offset % 2 == 1).for_each(|offset| first.settle(&receipt(offset), log));
        let committed = first.give_up(&[receipt(0).partition]);

        let mut second = Partitions::new(64);
        second.assign(vec![receipt(0).partition], committed, Epoch(1));
        let log = opened(&mut second, 0);
        (2..400).step_by(2).for_each(|offset| assert_eq!(opened(&mut second, offset), log));
        let (oldest, other) = (receipt(0), receipt(6));
        assert_eq!(second.transact(&[(&other, log)]), (vec![], vec![false]));
        let (points, told) = second.transact(&[(&other, log), (&oldest, log)]);
        assert_eq!((points[0].next, told), (2, vec![false, true]));
    }

    #[test]
    fn a_partition_waits_before_a_commit_could_not_tell_what_is_settled_in_it() {
        let mut partitions = Partitions::new(1_024);
        partitions.assign(vec![receipt(0).partition], Vec::new(), Epoch(1));
        let log = opened(&mut partitions, 0);
        let mut offset = 1;
        let held = loop {
            opened(&mut partitions, offset);
            // Every other one stays open.
            if offset % 2 == 0 {
                partitions.settle(&receipt(offset), log);
            }
            offset += 1;
            if let Some(held) = partitions.held() {
                break held;
            }
        };
        assert_eq!(held, HashSet::from([receipt(0).partition]));
        assert_eq!(partitions.held(), None, "it is told once");
        // What was on its way comes, and ends as it may.
        let last = offset + 1_280;
        for on_its_way in offset..last {
            opened(&mut partitions, on_its_way);
        }
        for odd in (1..last).filter(|offset| offset % 3 == 1) {
            partitions.settle(&receipt(odd), log);
        }
        let point = partitions.due().pop().unwrap();
        let told = Settled::read(point.next, &point.beyond).unwrap();
        assert!(point.beyond.len() <= 1_024 && told.contains(last - 1) == (last % 3 == 2), "all of it is told");
        for offset in 0..last {
            partitions.settle(&receipt(offset), log);
        }
        assert_eq!(partitions.held(), Some(HashSet::new()));
    }
}
