//! The assigned partitions: what is open in each, what of it is set aside, and what of it was committed.

mod aside;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use tokio_util::sync::CancellationToken;

use self::aside::{Aside, MOST_ASIDE};
use crate::{
    domain::{
        commit_point::CommitPoint,
        log_id,
        progress::Progress,
        published::{Part, Published},
        record::{Epoch, Partition, Receipt},
        settled::Settled,
    },
    kafka::notice::PartitionOffsets,
    pipeline::Claimant,
};

/// Records that are on their way when reading is told to wait: at most ten batches of 256. Each takes a fifth of a byte.
const ON_THEIR_WAY: i64 = 2_560;

#[derive(Debug)]
pub(super) struct Partitions {
    assigned: HashMap<Partition, Assigned>,
    /// Bytes of a commit's metadata.
    most_metadata: usize,
    /// In which reading was told to wait.
    held: HashSet<Partition>,
    /// Whether it was, as too many records are set aside.
    too_many_aside: bool,
    last_log: Log,
    /// Logs that ended since [`take_ended`](Partitions::take_ended).
    ended: Vec<Log>,
    /// Records that were set aside and are not there any more, since [`take_removed`](Partitions::take_removed).
    removed: Vec<(Partition, u64)>,
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
    aside: Aside,
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
    /// So is this one, which was set aside, and is until it is taken back.
    SetAside(Log, CancellationToken, Claimant),
    /// It was read before, and not set aside.
    Known,
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
        let (last_log, ended, removed) = (Log::default(), Vec::new(), Vec::new());
        Self { assigned, most_metadata, held, too_many_aside: false, last_log, ended, removed }
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
            self.let_finish(std::slice::from_ref(&point.partition));
            self.begin(point.partition.clone(), point.epoch, resumed(&point));
            self.due_again(&[point]);
        }
    }

    /// These are not there any more. What is open in them is finished; it settles nothing.
    pub(super) fn let_finish(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(mut gone) = self.assigned.remove(partition) {
                self.removed(partition, gone.aside.lose_all());
            }
        }
    }

    /// Begins with nothing open; what was before ends.
    fn begin(&mut self, partition: Partition, epoch: Epoch, progress: Progress) {
        self.last_log = self.last_log.next();
        let leaving = CancellationToken::new();
        let (log, aside) = (self.last_log, Aside::default());
        let assigned = Assigned { epoch, log, progress, aside, leaving, is_due: false, is_held: false };
        let earlier = self.assigned.insert(partition, assigned);
        self.ended.extend(earlier.map(|earlier| earlier.log));
    }

    /// Logs whose records are of no concern any more: given up, or begun anew.
    pub(super) fn take_ended(&mut self) -> Vec<Log> {
        mem::take(&mut self.ended)
    }

    /// Ends these logs of theirs; one that was assigned again meanwhile goes on. Returns how far they were settled.
    pub(super) fn give_up(&mut self, partitions: &[Partition], logs: &[Log]) -> Vec<CommitPoint> {
        let gone = partitions.iter().filter_map(|partition| {
            self.assigned.get(partition).filter(|assigned| logs.contains(&assigned.log))?;
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
        let was_read = assigned.progress.was_read(*offset);
        let again = assigned.aside.is_read_again();
        if again {
            self.came_again(partition, *offset);
        } else if was_read {
            tracing::warn!(%partition, offset, "the partition begins anew: its topic was recreated or lost its end; reading it from here");
            let lost = self.assigned.get_mut(partition).map_or(0, |assigned| assigned.aside.lose_all());
            self.removed(partition, lost);
            self.begin(partition.clone(), *epoch, Progress::default());
        }
        let Some(assigned) = self.assigned.get_mut(partition) else { return Opened::Stale };
        if was_read && again {
            return match assigned.aside.claimant(*offset) {
                Some(claimant) => Opened::SetAside(assigned.log, assigned.leaving.clone(), claimant),
                None => Opened::Known,
            };
        }
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

    fn settled(&mut self, receipt: &Receipt, log: Log) -> Option<&mut Assigned> {
        let assigned = self.of(receipt, log)?;
        assigned.progress.settle(receipt.offset);
        Some(assigned)
    }

    /// `None`: the record is of a log that has ended.
    fn of(&mut self, receipt: &Receipt, log: Log) -> Option<&mut Assigned> {
        self.assigned.get_mut(&receipt.partition).filter(|assigned| assigned.log == log)
    }

    /// Which alerts of a record that was opened are published.
    pub(super) fn published(&self, receipt: &Receipt) -> Option<Published> {
        self.assigned.get(&receipt.partition)?.progress.published(receipt.offset).cloned()
    }

    /// An alert of a record is published, and others of it are not.
    pub(super) fn publish(&mut self, receipt: &Receipt, log: Log, part: Part) {
        if let Some(assigned) = self.of(receipt, log) {
            assigned.progress.publish(receipt.offset, part);
            assigned.is_due = true;
        }
    }

    /// What was known to be published of a record is of no use.
    pub(super) fn unpublish(&mut self, receipt: &Receipt, log: Log) {
        if let Some(assigned) = self.of(receipt, log) {
            assigned.progress.unpublish(receipt.offset);
        }
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

    /// The daemon stops: in none of them calls are begun any more, nor is anything else waited for.
    pub(super) fn leave_all(&self) {
        self.assigned.values().for_each(|assigned| assigned.leaving.cancel());
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
        // Of very little, half is kept for them.
        let on_their_way = i64::try_from(self.most_metadata / 2 * 5).unwrap_or(i64::MAX).min(ON_THEIR_WAY);
        // Not with each record: what was fetched ahead is thrown away.
        let bound = |most: usize, is_held: bool| if is_held { most / 8 * 7 } else { most };
        for (partition, assigned) in &mut self.assigned {
            let is_held = assigned.progress.must_wait(bound(self.most_metadata, assigned.is_held), on_their_way);
            if is_held && !assigned.is_held {
                tracing::warn!(
                    %partition, most = self.most_metadata,
                    "more is settled behind open records than a commit's metadata can tell (input.max_commit_metadata); \
                     reading waits until the oldest are settled"
                );
            }
            assigned.is_held = is_held;
        }
        let too_many = self.set_aside_in_all() >= bound(MOST_ASIDE, self.too_many_aside);
        if too_many && !self.too_many_aside {
            tracing::warn!(
                most = MOST_ASIDE,
                "so many records are set aside that nothing new is read, of any account, until some have found room; look \
                 which account makes no calls"
            );
        }
        self.too_many_aside = too_many;
        let is_held = |assigned: &Assigned| assigned.is_held || too_many;
        let held =
            self.assigned.iter().filter(|(_, assigned)| is_held(assigned)).map(|(partition, _)| partition.clone());
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
    Some(CommitPoint { partition: partition.clone(), epoch, next, beyond: progress.beyond(most_metadata) })
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
    Progress::resume_committed(*next, beyond).unwrap_or_else(|unreadable| {
        tracing::warn!(%partition, next, "{unreadable}");
        Progress::resume(*next, Settled::default())
    })
}
