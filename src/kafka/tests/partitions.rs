//! Partitions that are held, come and go.

use std::{collections::BTreeSet, time::Duration};

use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use rstest::rstest;
use tokio::time::timeout;

use super::{Broker, Reader, SourceEvent, Start, trouble, working};
use crate::domain::{
    commit_point::CommitPoint,
    record::{Epoch, Partition, Receipt, Record},
};

/// Which partitions the group takes away next; nothing of them is settled.
async fn given_up(reader: &mut Reader) -> Vec<Partition> {
    loop {
        if let SourceEvent::Revoked { partitions, settled, .. } = reader.event().await {
            settled.settle(Vec::new());
            return partitions;
        }
    }
}

#[tokio::test]
async fn a_partition_that_is_held_gives_no_records_and_loses_none_while_the_others_go_on() {
    const COUNT: usize = 20_000;
    let broker = Broker::with_topic(3);
    let mut writer = broker.sink();
    writer.write_all(COUNT).await;
    let mut reader = broker.source();
    let mut seen = reader.records(1).await;
    let held = seen[0].receipt.partition.clone();
    reader.handle.hold([held.clone()].into());
    // A pause of all between does not let it go.
    reader.handle.pause();
    tokio::time::sleep(Duration::from_millis(500)).await;
    reader.handle.resume();
    let quiet = Duration::from_secs(3);
    while let Ok(Some(SourceEvent::Records(records))) = timeout(quiet, reader.events.recv()).await {
        seen.extend(records);
    }
    let of_held = |seen: &[Record]| seen.iter().filter(|record| record.receipt.partition == held).count();
    let so_far = of_held(&seen);
    writer.write_all(300).await;
    while let Ok(Some(SourceEvent::Records(records))) = timeout(quiet, reader.events.recv()).await {
        seen.extend(records);
    }
    assert!(of_held(&seen) == so_far && so_far < COUNT / 4, "{so_far} records of the one that is held");
    // How many a partition has is left to chance.
    let of_others = seen.len() - so_far;
    reader.handle.hold([].into());
    seen.extend(reader.records(COUNT + 300 - seen.len()).await);
    assert_eq!(seen.len() - of_held(&seen), of_others, "the others go on");
    let distinct: BTreeSet<_> =
        seen.iter().map(|record| (record.receipt.partition.number, record.receipt.offset)).collect();
    assert_eq!((seen.len(), distinct.len()), (COUNT + 300, COUNT + 300));
    reader.stop().await;
}

#[tokio::test]
async fn a_revoked_partition_is_given_up_after_its_last_commit() {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(200).await;
    let mut first = broker.source();
    let mut second_seen = Vec::new();
    first.records(200).await;
    let mut second = broker.source();
    let revoked = loop {
        if let SourceEvent::Revoked { partitions, lost, settled, .. } = first.event().await {
            assert!(!lost);
            let points = partitions.iter().map(|partition| CommitPoint {
                partition: partition.clone(),
                epoch: Epoch(1),
                next: 5,
                beyond: String::new(),
            });
            settled.settle(points.collect());
            break partitions;
        }
    };
    assert_eq!(revoked.len(), 1, "cooperative: only what moves is revoked");
    let committed = first.committed().await;
    assert_eq!((committed.len(), committed[0].next), (1, 5));
    let (moved, _) = second.assigned().await;
    let moved = if moved.is_empty() { second.assigned().await.0 } else { moved };
    assert_eq!(moved, revoked);
    second_seen.extend(second.records(1).await);
    assert_eq!(second_seen[0].receipt.offset, 5);
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_partition_that_was_given_up_in_a_pause_is_read_when_it_comes_back() {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(200).await;
    let mut first = broker.source();
    first.records(200).await;
    first.handle.pause();
    // A short one is not told to librdkafka.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut second = broker.source();
    let moved = given_up(&mut first).await;
    while second.assigned().await.0.is_empty() {}
    first.handle.resume();
    second.stop().await;
    while first.assigned().await.0 != moved {}
    let again = first.records(1).await;
    assert_eq!(again[0].receipt.partition, moved[0], "it was committed nowhere, so it is read from its beginning");
    first.stop().await;
}

#[tokio::test]
async fn a_partition_that_is_held_stays_held_where_all_are_assigned_anew() {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(20_000).await;
    let mut first = broker.source_with(&[EAGER]);
    let (partitions, _) = first.assigned().await;
    first.records(1).await;
    first.handle.hold(partitions.into_iter().collect());
    let second = broker.source_with(&[EAGER]);
    given_up(&mut first).await;
    // The dispatcher has not looked yet what it holds of them now.
    assert_eq!(first.assigned().await.0.len(), 1);
    assert_eq!(first.quiet_for(Duration::from_secs(2)).await, []);
    first.handle.hold([].into());
    first.records(1).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test]
async fn a_partition_that_is_held_stays_held_where_the_place_of_another_is_gone() {
    let broker = Broker::with_topic(2);
    let mut writer = broker.sink();
    // Each time the producer chooses a partition: so both have more than is on its way when one is held.
    for _ in 0..100 {
        writer.write_all(200).await;
    }
    let mut reader = broker.source();
    let held = reader.records(1).await[0].receipt.partition.clone();
    reader.handle.hold([held.clone()].into());
    reader.quiet_for(Duration::from_secs(2)).await;
    let gone = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE];
    broker.0.request_errors(RDKafkaApiKey::Fetch, &gone);
    let after = reader.quiet_for(Duration::from_secs(3)).await;
    assert!(after.iter().all(|record| record.receipt.partition != held), "{} records", after.len());
    reader.handle.hold([].into());
    while reader.records(1).await[0].receipt.partition != held {}
    reader.stop().await;
}

const EAGER: (&str, &str) = ("partition.assignment.strategy", "range");

/// The offsets that are read of each partition, until there are as many as these.
async fn read_of_each(reader: &mut Reader, count: usize) -> [usize; 2] {
    let mut of_each = [0, 0];
    for record in reader.records(count).await {
        of_each[usize::from(record.receipt.partition.number == 1)] += 1;
    }
    of_each
}

#[rstest]
#[case::cooperative(&[])]
#[case::eager(&[EAGER])]
#[tokio::test]
async fn a_partition_without_a_leader_is_waited_for_and_the_others_are_read(#[case] properties: &[(&str, &str)]) {
    const COUNT: usize = 4_000;
    let broker = Broker::with_topic(2);
    broker.sink().write_all(COUNT).await;
    broker.0.partition_leader("alerts", 1, None).unwrap();
    let mut reader = broker.source_with(properties);
    let (partitions, epoch) = reader.assigned().await;
    assert_eq!(partitions.iter().map(|partition| partition.number).collect::<Vec<_>>(), [0]);
    let before = reader.quiet_for(Duration::from_secs(3)).await;
    assert!(!before.is_empty() && before.iter().all(|record| record.receipt.partition.number == 0));
    broker.0.partition_leader("alerts", 1, Some(1)).unwrap();
    let (partitions, later) = reader.assigned().await;
    assert_eq!(partitions.iter().map(|partition| partition.number).collect::<Vec<_>>(), [1]);
    assert!(later > epoch);
    let after = read_of_each(&mut reader, COUNT - before.len()).await;
    assert_eq!(after, [0, COUNT - before.len()], "the other goes on where it was");
    reader.stop().await;
}

#[tokio::test]
async fn where_all_partitions_wait_it_is_told_until_they_are_read() {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(10).await;
    for number in [0, 1] {
        broker.0.partition_leader("alerts", number, None).unwrap();
    }
    let mut reader = broker.source();
    let told = trouble(&mut reader.notices).await;
    assert!(told.words().contains("alerts/0, alerts/1 (no broker leads it"), "{told:?}");
    for number in [0, 1] {
        broker.0.partition_leader("alerts", number, Some(1)).unwrap();
    }
    working(&mut reader.notices).await;
    reader.records(10).await;
    reader.stop().await;
}

/// Others of its topic are read and committed meanwhile, and that must not make it one that was added.
#[tokio::test]
async fn a_partition_that_waited_begins_where_the_user_says() {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(4_000).await;
    broker.0.partition_leader("alerts", 1, None).unwrap();
    let mut reader = broker.source_from(Start::Latest);
    let mut begun = Vec::new();
    while begun.len() < 2 {
        if let SourceEvent::Assigned { begun: points, .. } = reader.event().await {
            reader.handle.commit(points.clone());
            begun.extend(points);
            broker.0.partition_leader("alerts", 1, Some(1)).unwrap();
        }
    }
    assert!(begun[1].partition.number == 1 && begun[1].next > 0, "{begun:?}");
    reader.stop().await;
}

#[rstest]
#[case::cooperative(&[])]
#[case::eager(&[EAGER])]
#[tokio::test]
async fn a_partition_that_waits_moves_to_another_member(#[case] properties: &[(&str, &str)]) {
    let broker = Broker::with_topic(2);
    broker.sink().write_all(4_000).await;
    broker.0.partition_leader("alerts", 1, None).unwrap();
    let mut first = broker.source_with(properties);
    assert_eq!(first.assigned().await.0.len(), 1);
    let mut second = broker.source_with(properties);
    // Whichever moves, both go on, and each has one.
    given_up(&mut first).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    broker.0.partition_leader("alerts", 1, Some(1)).unwrap();
    let mut read = [BTreeSet::new(), BTreeSet::new()];
    let each_has_one = async {
        while read[1].is_empty() || !read.iter().any(|numbers: &BTreeSet<i32>| numbers.contains(&1)) {
            for (reader, numbers) in [&mut first, &mut second].into_iter().zip(&mut read) {
                match timeout(Duration::from_millis(100), reader.events.recv()).await {
                    Ok(Some(SourceEvent::Records(records))) => {
                        numbers.extend(records.iter().map(|record| record.receipt.partition.number));
                    }
                    Ok(Some(SourceEvent::Revoked { settled, .. })) => settled.settle(Vec::new()),
                    _ => {}
                }
            }
        }
    };
    timeout(Duration::from_mins(1), each_has_one).await.expect("the second reads, and somebody reads what waited");
    assert_eq!(read[1].len(), 1, "{read:?}");
    second.stop().await;
    first.stop().await;
}

/// As a record that was set aside wants it; also where the partition is held, for it may wait for that very record.
#[rstest]
#[case::cooperative("cooperative-sticky", false)]
#[case::eager("range", false)]
#[case::held("cooperative-sticky", true)]
#[tokio::test]
async fn a_partition_is_read_again_from_a_record_and_goes_on_where_it_was(
    #[case] strategy: &str,
    #[case] is_held: bool,
) {
    const COUNT: usize = 3_000;
    let broker = Broker::with_topic(2);
    let mut writer = broker.sink();
    writer.write_all(COUNT).await;
    let mut reader = broker.source_with(&[("partition.assignment.strategy", strategy)]);
    let first = reader.records(COUNT).await;
    let target = first.iter().map(|record| &record.receipt).find(|receipt| receipt.offset == 100).unwrap().clone();
    if is_held {
        reader.handle.hold([target.partition.clone()].into());
    }
    let stale = Epoch(target.epoch.0 + 9);
    reader.handle.read_again(vec![Receipt { epoch: stale, ..target.clone() }]);
    assert!(timeout(Duration::from_secs(1), reader.events.recv()).await.is_err(), "a wish of another assignment");

    reader.handle.read_again(vec![target.clone()]);
    let SourceEvent::ReadAgain { from, first: 0 } = reader.event().await else { panic!("it is told where it begins") };
    assert_eq!(from, target);
    let again = reader.records(1).await;
    writer.write_all(400).await;
    let again: Vec<_> = again.into_iter().chain(reader.quiet_for(Duration::from_secs(3)).await).collect();
    let of_it = |records: &[Record]| -> Vec<i64> {
        let its = records.iter().filter(|record| record.receipt.partition == target.partition);
        its.map(|record| record.receipt.offset).collect()
    };
    let (before, came) = (of_it(&first), of_it(&again));
    let reached = before.last().unwrap() + 1;
    assert!(came.iter().copied().eq(100..=*came.last().unwrap()), "from it on, in order, nothing left out");
    let new = came.last().unwrap() + 1 - reached;
    assert!(if is_held { new == 0 } else { new > 0 }, "{new} that were not read before");
    assert!(again.iter().all(|record| record.receipt.epoch == target.epoch), "it is the same assignment");
    let others = again.iter().filter(|record| record.receipt.partition != target.partition);
    assert!(others.clone().count() > 0, "the other partition goes on");
    let seen = others.filter(|record| first.iter().any(|before| before.receipt == record.receipt));
    assert_eq!(seen.count(), 0, "and is not read again");
    if is_held {
        reader.handle.hold([].into());
        let rest = of_it(&reader.quiet_for(Duration::from_secs(3)).await);
        assert_eq!(rest.first(), Some(&reached), "where it was");
    }
    reader.stop().await;
}

/// Each pause throws away what was fetched of the slower one, and what comes of the other fills the read window.
#[tokio::test]
async fn a_partition_whose_leader_is_slower_is_read_too_where_reading_pauses_often() {
    let broker = Broker(MockCluster::new(2).unwrap());
    broker.0.create_topic("alerts", 2, 1).unwrap();
    for (number, leader) in [(0, 1), (1, 2)] {
        broker.0.partition_leader("alerts", number, Some(leader)).unwrap();
    }
    broker.sink().write_all(20_000).await;
    broker.0.broker_round_trip_time(2, Duration::from_millis(400)).unwrap();
    let mut reader = broker.source();
    let mut seen = [0; 2];
    for _ in 0..8 {
        reader.handle.resume();
        let mut records = reader.records(1).await;
        reader.handle.pause();
        // What was on its way, and until librdkafka is told of the pause.
        records.extend(reader.quiet_for(Duration::from_secs(1)).await);
        for record in records {
            seen[usize::try_from(record.receipt.partition.number).unwrap()] += 1;
        }
    }
    assert!(seen.iter().all(|records| *records > 500), "{seen:?}");
    reader.stop().await;
}
