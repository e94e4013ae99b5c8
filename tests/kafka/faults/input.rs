//! The input: deleted, created anew, grown, and cut by its retention.

use std::{thread, time::Duration};

use rstest::rstest;

use super::{
    BOTH, RECOVERY, alerts, assert_delivered, config, ids, published, service, wait_for_some, wait_until_read,
};
use crate::harness::{Broker, Daemon, LONG, Topics};

const RECREATED: &str = "was deleted and created anew";

/// In a moment, and with more records than the old one had: nobody can tell by the offsets.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn an_input_that_is_created_anew_is_read_from_its_beginning(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "recreated");
    let (old, new) = (alerts(1, 100), alerts(2, 200));
    let all = [ids(&old), ids(&new)].concat();
    topics.seed(old);
    let mut daemon = Daemon::start(&config(&topics, &service, delivery));
    // All of it is read, and most of it open.
    wait_until_read(&mut daemon, 100.0);
    wait_for_some(&mut daemon, &topics);
    daemon.pause();
    thread::sleep(Duration::from_millis(500));
    topics.recreate_input();
    topics.seed(new);
    daemon.resume();
    let line = daemon.wait_for_log(RECREATED, RECOVERY);
    assert!(line.contains(&topics.input) && line.contains("is read from its beginning"), "{line}");
    // What was read of the old one too: it is nowhere else any more.
    assert_delivered(&mut daemon, &topics, &all, delivery);
    daemon.finish(&topics);
    assert_eq!(daemon.metric("alert_ips_partitions_begun_anew_total"), Some(3.0));
    daemon.wait_until_ready();
    daemon.stop();
}

/// It is away for so long that the group gives its partitions up; and Kafka forgets what was committed of it, so that a group
/// that begins at the end would begin there.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn an_input_that_was_away_is_read_from_its_beginning(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "away");
    let mut daemon = Daemon::start(&config(&topics, &service, delivery).set("input.start", "latest"));
    daemon.wait_until_ready();
    let (old, new) = (alerts(1, 100), alerts(2, 50));
    let all = [ids(&old), ids(&new)].concat();
    topics.seed(old);
    // What is not read when it is deleted is gone.
    wait_until_read(&mut daemon, 100.0);
    topics.delete(&topics.input);
    let words = daemon.wait_for_words("a topic is missing");
    assert!(words.contains(&topics.input) && words.contains("alert-ips topics --create"), "{words}");
    daemon.wait_for_log("partitions to be given up", LONG);
    topics.make(&topics.input, &[]);
    topics.seed(new);
    assert_delivered(&mut daemon, &topics, &all, delivery);
    daemon.wait_until_ready();
    daemon.stop();
}

/// Records of the one, and what is committed of it, say nothing of the other. Missing from the beginning, and deleted later.
#[test]
fn one_of_two_inputs_is_missing_and_told_until_it_is_there() {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "one-of-two");
    let other = Topics::named(&kafka.bootstrap, "the-other");
    let inputs = format!("{}, {}", topics.input, other.input);
    let mut daemon = Daemon::start(&config(&topics, &service, BOTH[0]).set("topics.input", inputs));
    for round in [1, 2] {
        let (while_away, after) = (alerts(2 * round, 20), alerts(2 * round + 1, 20));
        let words = daemon.wait_for_log(&format!("a topic is missing: input {}", other.input), LONG);
        assert!(words.contains("alert-ips topics --create"), "{words}");
        let all = [ids(&while_away), ids(&after)].concat();
        topics.seed(while_away);
        assert_delivered(&mut daemon, &topics, &all[..20], BOTH[0]);
        daemon.wait_for("it is committed", LONG, |_| (topics.uncommitted() == 0).then_some(()));
        // It does its work, and says what it can't do.
        let (status, body) = daemon.page("/readyz?verbose").unwrap();
        assert!(status == 200 && body.contains("a topic is missing"), "{status} {body}");
        other.make(&other.input, &[]);
        other.seed(after);
        assert_delivered(&mut daemon, &topics, &all, BOTH[0]);
        daemon.wait_for("nothing is missing", LONG, |daemon| {
            let (status, body) = daemon.page("/readyz?verbose")?;
            (status == 200 && !body.contains("a topic is missing")).then_some(())
        });
        other.delete(&other.input);
    }
    daemon.wait_for("it is missing again", LONG, |daemon| {
        daemon.page("/readyz?verbose").filter(|(_, body)| body.contains("a topic is missing"))
    });
    daemon.stop();
}

/// Where the group's offsets outlive the topic, or a late commit meets the new one, they say of which topic they are.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn an_input_that_was_created_anew_meanwhile_is_read_from_its_beginning(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "recreated-meanwhile");
    let (old, new) = (alerts(1, 60), alerts(2, 120));
    let all = [ids(&old), ids(&new)].concat();
    topics.seed(old);
    let config = config(&topics, &service, delivery);
    let mut daemon = Daemon::start(&config);
    daemon.finish(&topics);
    daemon.stop();
    let committed = topics.committed();
    topics.recreate_input();
    topics.seed(new);
    topics.commit(&committed);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for_log(RECREATED, RECOVERY);
    assert_delivered(&mut daemon, &topics, &all, delivery);
    daemon.finish(&topics);
    daemon.stop();
    // And it says so once.
    let mut daemon = Daemon::start(&config);
    daemon.wait_until_ready();
    assert!(!daemon.log().contains(RECREATED));
    daemon.stop();
}

/// A group that began at the end of the topic reads all of what is added to it.
#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn a_partition_that_is_added_is_read_from_its_beginning(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "grown");
    let before = alerts(1, 30);
    topics.seed(before.clone());
    let config = config(&topics, &service, delivery).set("input.start", "latest");
    let mut daemon = Daemon::start(&config);
    daemon.wait_until_ready();
    daemon.pause();
    topics.grow(&topics.input, 5);
    let while_running = alerts(2, 20);
    topics.seed_in(3, &while_running);
    daemon.resume();
    assert_delivered(&mut daemon, &topics, &ids(&while_running), delivery);
    daemon.wait_for_log("was added to its topic", RECOVERY);
    daemon.stop();

    // The same while none runs; and what the others have begun with stays as it is.
    let while_away = alerts(3, 20);
    topics.grow(&topics.input, 6);
    topics.seed_in(5, &while_away[..10]);
    topics.seed_in(0, &while_away[10..]);
    let mut daemon = Daemon::start(&config);
    assert_delivered(&mut daemon, &topics, &ids(&while_away), delivery);
    daemon.stop();
    let published = published(&topics);
    assert!(ids(&before).iter().all(|id| !published.contains_key(id)), "what was there before the group is not read");
}

/// Kafka's retention is faster than the permits: told, counted, and only what is gone is gone.
#[rstest]
#[case::while_it_runs(BOTH[0], true)]
#[case::while_it_runs_exactly_once(BOTH[1], true)]
#[case::while_it_is_away(BOTH[0], false)]
#[case::while_it_is_away_exactly_once(BOTH[1], false)]
fn records_that_are_removed_unread_are_told_and_counted(#[case] delivery: &str, #[case] runs: bool) {
    let Some(kafka) = Broker::shared() else { return };
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "removed");
    let first = alerts(1, 30);
    for (partition, messages) in (0..).zip(first.chunks(10)) {
        topics.seed_in(partition, messages);
    }
    let config = config(&topics, &service, delivery).limits(&["100 per 1s"]);
    let mut daemon = Daemon::start(&config);
    daemon.finish(&topics);
    let paused = if runs {
        daemon.pause();
        // The fetch that is under way ends without a record.
        thread::sleep(Duration::from_millis(500));
        Some(daemon)
    } else {
        daemon.stop();
        None
    };
    let second = alerts(2, 150);
    for (partition, messages) in (0..).zip(second.chunks(50)) {
        topics.seed_in(partition, messages);
    }
    // Of each partition, the 20 that come next.
    topics.remove_before(&topics.input, 30);
    let mut daemon = paused.unwrap_or_else(|| Daemon::start(&config));
    daemon.resume();
    let line = daemon.wait_for_log("records were lost: kafka removed the offsets from 10 to 29", RECOVERY);
    assert!(line.contains(&topics.input) && line.contains("raise retention.ms"), "{line}");
    let left: Vec<_> = (0..3).flat_map(|partition| ids(&second[50 * partition + 20..][..30])).collect();
    assert_delivered(&mut daemon, &topics, &left, delivery);
    daemon.wait_for("all are counted", LONG, |daemon| {
        (daemon.metric("alert_ips_records_removed_unread_total") == Some(60.0)).then_some(())
    });
    daemon.finish(&topics);
    thread::sleep(Duration::from_secs(1));
    assert!(daemon.log().matches("records were lost").count() == 3, "each partition once");
    daemon.stop();
}
