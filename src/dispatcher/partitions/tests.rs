use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::time::BootTime;

fn given_up(partitions: &mut Partitions) -> Vec<CommitPoint> {
    let partition = [receipt(0).partition];
    let logs = partitions.begin_to_leave(&partition);
    partitions.give_up(&partition, &logs)
}

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
    assert_eq!(given_up(&mut partitions), []);
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
    let committed = given_up(&mut first);
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
    let committed = given_up(&mut first);

    let mut second = Partitions::new(64);
    second.assign(vec![receipt(0).partition], committed, Epoch(1));
    let log = opened(&mut second, 0);
    (2..400).step_by(2).for_each(|offset| assert_eq!(opened(&mut second, offset), log));
    let (oldest, other) = (receipt(0), receipt(6));
    assert_eq!(second.transact(&[(&other, log)]), (vec![], vec![false]));
    let (points, told) = second.transact(&[(&other, log), (&oldest, log)]);
    assert_eq!((points[0].next, told), (2, vec![false, true]));
}

/// What is open is to be read first, whatever those before have settled behind it.
#[test]
fn whoever_takes_over_a_full_partition_reads_on() {
    let mut first = Partitions::new(1_024);
    first.assign(vec![receipt(0).partition], Vec::new(), Epoch(1));
    let log = opened(&mut first, 0);
    let mut last = 0;
    let mut read = |first: &mut Partitions| {
        last += 1;
        opened(first, last);
        if last % 2 == 1 {
            first.settle(&receipt(last), log);
        }
    };
    while first.held().is_none() {
        read(&mut first);
    }
    // What was on its way comes too.
    (0..100).for_each(|_| read(&mut first));
    let committed = given_up(&mut first);

    let mut second = Partitions::new(1_024);
    second.assign(vec![receipt(0).partition], committed, Epoch(1));
    assert_eq!(second.held(), None, "nothing was read yet");
    opened(&mut second, 0);
    assert_eq!(second.held(), None, "what is read next was read before");
}

/// The source gave up waiting, and has the partition again.
#[test]
fn what_was_assigned_again_meanwhile_is_not_given_up() {
    let mut partitions = assigned();
    let partition = [receipt(0).partition];
    let logs = partitions.begin_to_leave(&partition);
    partitions.assign(partition.to_vec(), Vec::new(), Epoch(2));
    assert_eq!(partitions.give_up(&partition, &logs), []);
    let again = Receipt { epoch: Epoch(2), ..receipt(7) };
    assert!(matches!(partitions.open(&again), Opened::In(..)));
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
    let last = offset + 2_560;
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

fn low() -> Claimant {
    Claimant { account: 1, is_high: false, alerts: 1 }
}

/// Reads these, the odd ones of which find no room. Returns their log.
fn read_with_odd_ones_aside(partitions: &mut Partitions, offsets: std::ops::Range<i64>) -> Log {
    let logs: Vec<_> = offsets
        .map(|offset| {
            let log = opened(partitions, offset);
            if offset % 2 == 1 {
                partitions.set_aside(&receipt(offset), low());
            }
            log
        })
        .collect();
    logs[0]
}

#[test]
fn what_was_set_aside_is_open_until_it_is_read_again_and_settled() {
    let mut partitions = assigned();
    let log = read_with_odd_ones_aside(&mut partitions, 0..6);
    for even in [0, 2, 4] {
        partitions.settle(&receipt(even), log);
    }
    assert_eq!((partitions.due()[0].next, partitions.set_aside_in_all()), (1, 3));

    let now = BootTime::from_origin(Duration::from_mins(1));
    assert_eq!(partitions.read_again(now, |_| false), []);
    let again = partitions.read_again(now, |_| true);
    assert_eq!(again, [receipt(1)]);
    // What was on its way comes first.
    opened(&mut partitions, 6);
    partitions.begun_again(&again[0], 0);
    for offset in 1..8 {
        match (offset, partitions.open(&receipt(offset))) {
            (1 | 3, Opened::SetAside(its_log, _, claimant)) => {
                assert_eq!((its_log, claimant), (log, low()));
                partitions.take_back(&receipt(offset));
                partitions.settle(&receipt(offset), log);
            }
            (5, Opened::SetAside(..)) | (2 | 4 | 6, Opened::Known) | (7, Opened::In(..)) => {}
            (offset, opened) => panic!("{offset} is {opened:?}"),
        }
    }
    assert_eq!((partitions.due()[0].next, partitions.set_aside_in_all()), (5, 1));
    assert_eq!((partitions.take_removed(), partitions.take_ended()), (vec![], vec![]));
}

#[test]
fn what_was_set_aside_and_is_not_there_any_more_is_told_and_holds_nothing_back() {
    let mut partitions = assigned();
    let log = read_with_odd_ones_aside(&mut partitions, 0..8);
    for even in [0, 2, 4, 6] {
        partitions.settle(&receipt(even), log);
    }
    partitions.begun_again(&receipt(1), 3);
    assert_eq!(partitions.take_removed(), [(receipt(0).partition, 1)], "1 is below the first");
    assert!(matches!(partitions.open(&receipt(6)), Opened::Known));
    assert_eq!(partitions.take_removed(), [(receipt(0).partition, 2)], "3 and 5 did not come");
    opened(&mut partitions, 8);
    assert_eq!((partitions.take_removed(), partitions.due()[0].next), (vec![(receipt(0).partition, 1)], 8));
}

#[test]
fn a_log_that_begins_anew_or_is_gone_takes_what_was_set_aside_with_it() {
    let mut partitions = assigned();
    read_with_odd_ones_aside(&mut partitions, 0..4);
    opened(&mut partitions, 0);
    let of_old = (receipt(0).partition, 2);
    assert_eq!((partitions.take_removed(), partitions.set_aside_in_all()), (vec![of_old], 0));
    read_with_odd_ones_aside(&mut partitions, 1..4);
    partitions.let_finish(&[receipt(0).partition]);
    assert_eq!(partitions.take_removed(), [(receipt(0).partition, 2)]);
}

/// The next owner reads it.
#[test]
fn what_was_set_aside_of_a_partition_that_is_given_up_is_not_lost() {
    let mut partitions = assigned();
    read_with_odd_ones_aside(&mut partitions, 0..4);
    let points = given_up(&mut partitions);
    assert_eq!((points[0].next, partitions.take_removed(), partitions.set_aside_in_all()), (0, vec![], 0));
    // A word about it that comes late.
    partitions.begun_again(&receipt(1), 3);
    assert_eq!(partitions.take_removed(), []);
}

#[test]
fn nothing_new_is_read_once_too_many_are_set_aside() {
    const EACH: i64 = 15_000;
    const MANY: i32 = 14;
    let of = |number, offset| Receipt { partition: Partition { topic: "in".into(), number }, ..receipt(offset) };
    let mut partitions = Partitions::new(4_096);
    partitions.assign((0..MANY).map(|number| of(number, 0).partition).collect(), Vec::new(), Epoch(1));
    let mut held = None;
    for receipt in (0..MANY).flat_map(|number| (0..EACH).map(move |offset| of(number, offset))) {
        assert!(matches!(partitions.open(&receipt), Opened::In(..)));
        partitions.set_aside(&receipt, low());
        if partitions.set_aside_in_all() == MOST_ASIDE - 1 {
            held = Some(partitions.held());
        }
    }
    assert_eq!(held, Some(None), "of none of them is much known");
    assert_eq!(partitions.held().map(|held| held.len()), Some(14));
    let back = |partitions: &mut Partitions, number| {
        (0..EACH).for_each(|offset| partitions.take_back(&of(number, offset)));
    };
    back(&mut partitions, 0);
    assert_eq!(partitions.held(), None, "not with each record");
    (1..3).for_each(|number| back(&mut partitions, number));
    assert_eq!(partitions.held(), Some(HashSet::new()));
}

proptest! {
    /// Whatever finds room, is settled, and is read again: nothing is opened twice, nothing is forgotten, and what Kafka has
    /// removed holds nothing back.
    #[test]
    fn everything_read_is_settled_once_however_often_it_is_set_aside(
        removed in proptest::collection::btree_set(0..120_i64, 0..20),
        rounds in proptest::collection::vec((any::<u64>(), any::<u64>(), 1..60_i64), 1..12),
    ) {
        let mut partitions = assigned();
        let (mut lives, mut log, mut next, mut now) = (HashSet::new(), None, 0, BootTime::from_origin(Duration::ZERO));
        let last = (u64::MAX, u64::MAX, 0);
        for (round, (room, settles, more)) in rounds.into_iter().chain([last]).enumerate() {
            now = now + Duration::from_secs(10);
            let from = partitions.read_again(now, |_| true).pop();
            // Kafka removes some once they were read.
            let is_there = |offset: &i64| round == 0 || !removed.contains(offset);
            let begin = from.as_ref().map_or(next, |from| from.offset);
            if let Some(from) = &from {
                partitions.begun_again(from, 0);
            }
            let end = next + more + i64::from(from.is_some() && more == 0);
            for offset in (begin..end).filter(|offset| *offset >= next || is_there(offset)) {
                let has_room = room >> (offset % 64) & 1 == 1;
                match partitions.open(&receipt(offset)) {
                    Opened::In(..) if !has_room => partitions.set_aside(&receipt(offset), low()),
                    Opened::SetAside(..) if !has_room => {}
                    opened @ (Opened::In(..) | Opened::SetAside(..)) => {
                        partitions.take_back(&receipt(offset));
                        let (Opened::In(its, _) | Opened::SetAside(its, ..)) = opened else { unreachable!() };
                        log = Some(its);
                        prop_assert!(lives.insert(offset), "{offset} lives twice");
                        if settles >> (offset % 64) & 1 == 1 {
                            partitions.settle(&receipt(offset), its);
                        }
                    }
                    Opened::Known => prop_assert!(offset < next),
                    other => prop_assert!(false, "{offset} is {other:?}"),
                }
            }
            next = next.max(end);
        }
        // The last round had room for all, and one more record ended what was read again.
        prop_assert_eq!(partitions.set_aside_in_all(), 0);
        let gone: u64 = partitions.take_removed().iter().map(|(_, records)| records).sum();
        prop_assert_eq!(lives.len() as u64 + gone, next.unsigned_abs());
        if let Some(log) = log {
            for offset in lives {
                partitions.settle(&receipt(offset), log);
            }
        }
        prop_assert_eq!(partitions.assigned[&receipt(0).partition].progress.watermark(), Some(next));
    }
}
