//! `alert-ips replay`: dead letters are shown, sent back, decided, and not sent twice.

use std::{process::Output, thread, time::Duration};

use alert_ips::{
    domain::{dead_letter::DeadLetter, replay::attempts},
    sim::{
        Mix, Plan,
        world::{Expected, Message},
    },
};

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics, eventually};

const ELSEWHERE: [&str; 3] = ["elsewhere-1", "elsewhere-2", "elsewhere-3"];

fn message(payload: &str) -> Message {
    Message { key: None, payload: Some(payload.into()), shape: "any", expected: Expected::default() }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What the command prints, and that it ends so.
fn replay(config: &Config, words: &[&str], code: i32) -> String {
    let output = config.run(&[&["replay"], words].concat());
    let text = text(&output);
    assert_eq!(output.status.code(), Some(code), "{words:?}: {text}");
    text
}

/// Three records have their id where no shape knows it, and one is no JSON. The operator maps the field, and sends back.
#[rstest::rstest]
#[case::at_least_once("at-least-once")]
#[case::exactly_once("exactly-once")]
fn what_can_be_used_after_all_is_sent_back_once_and_the_rest_stays(#[case] delivery: &str) {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "replay");
    let mapped = ELSEWHERE.map(|id| message(&format!(r#"{{"detection":{{"alert_id":"{id}"}}}}"#)));
    topics.seed_in(0, &mapped);
    topics.seed_in(1, &[message("{"), message(r#"{"id":"here"}"#)]);
    let config = || Config::new(&topics, &service.origin).limits(&["1000 per 1s"]).set("output.delivery", delivery);
    let dead_letters = |count: usize| (topics.read(&topics.dead_letters).len() == count).then_some(());

    let mut daemon = Daemon::start(&config());
    daemon.wait_for("four dead letters", LONG, |_| dead_letters(4));
    daemon.stop();

    let list = replay(&config(), &[], 0);
    assert!(list.contains("unknown_shape") && list.contains("not_json") && list.contains("[input.custom]"), "{list}");
    let first = &topics.read(&topics.dead_letters)[0].receipt;
    let place = format!("{}/{}", first.partition.number, first.offset);
    assert!(replay(&config(), &["--show", &place], 0).contains("remedy"));
    assert!(replay(&config(), &["--show", "0/1000000"], 1).contains("there is no record"));
    let plan = replay(&config(), &["--reason", "unknown_shape", "--dry-run"], 0);
    assert!(plan.contains("3 dead letters would be sent back"), "{plan}");
    assert_eq!(topics.read(&topics.dead_letters).len(), 4, "nothing was sent");

    let mended = config().set("input.custom.id", "/detection/alert_id");
    let mut daemon = Daemon::start(&mended);
    let sent = replay(&mended, &["--reason", "unknown_shape"], 0);
    assert!(sent.contains("3 dead letters sent back, 3 of them decided"), "{sent}");
    let published = topics.read(&topics.output);
    let published = |id: &str| published.iter().filter(|record| record.key.as_deref() == Some(id.as_bytes())).count();
    assert_eq!(ELSEWHERE.map(published), [1; 3]);
    let again = replay(&mended, &["--reason", "unknown_shape"], 0);
    assert!(again.contains("nothing is there to be sent back"), "{again}");

    let anew = replay(&mended, &["--again", "--reason", "unknown_shape", "--dry-run"], 0);
    assert!(anew.contains("3 dead letters would be sent back"), "{anew}");
    let anew = replay(&mended, &["--again", "--reason", "unknown_shape", "--limit", "1"], 0);
    assert!(anew.contains("1 dead letter sent back, 1 of them decided"), "{anew}");
    let again = replay(&mended, &["--reason", "unknown_shape"], 0);
    assert!(again.contains("nothing is there to be sent back"), "what was noted before is forgotten: {again}");

    // It is no JSON however often it is sent, and that ends.
    for before in 0..3 {
        let sent = replay(&mended, &["--all"], 1);
        assert!(sent.contains("dead letters once more: 1 not_json"), "{before}: {sent}");
        daemon.wait_for("it is rejected again", LONG, |_| dead_letters(5 + before));
    }
    let left = replay(&mended, &["--all"], 1);
    assert!(left.contains("1 dead letter left alone: it was sent back as often"), "{left}");
    let mut counts: Vec<_> = topics
        .read(&topics.dead_letters)
        .into_iter()
        .map(|record| attempts(&DeadLetter::read(record).unwrap().original))
        .collect();
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 0, 1, 2, 3]);
    assert!(topics.settled().len() >= 2);
    daemon.stop();
}

/// With nobody to decide them, what was sent waits in its topic, and the command can be ended.
#[test]
fn what_was_sent_back_without_a_daemon_is_decided_by_the_next() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "replay-later");
    topics.seed_in(0, &ELSEWHERE.map(|id| message(&format!(r#"{{"detection":{{"alert_id":"{id}"}}}}"#))));
    let config = Config::new(&topics, &service.origin).limits(&["1000 per 1s"]);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("three dead letters", LONG, |_| (topics.read(&topics.dead_letters).len() == 3).then_some(()));
    daemon.stop();

    let mended = config.set("input.custom.id", "/detection/alert_id");
    let noted = || topics.noted() == 2;
    let output = mended.run_until(&["replay", "--all", "--limit", "2"], || {
        eventually("two are sent, and noted", LONG, || noted().then_some(()));
    });
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("what is on its way stays in its topic"), "{}", text(&output));

    let mut daemon = Daemon::start(&mended);
    daemon.wait_for("two are published", LONG, |_| (topics.read(&topics.output).len() == 2).then_some(()));
    let rest = replay(&mended, &["--all"], 0);
    assert!(rest.contains("1 dead letter sent back, 1 of them decided"), "{rest}");
    assert_eq!(topics.read(&topics.output).len(), 3);
    daemon.stop();
}

/// An eighth of the read window; and of two runs at once the one that has not noted what the other has.
#[test]
fn few_are_on_their_way_at_once_and_only_one_run_sends() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&[], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "replay-few");
    let ids: Vec<_> = (0..40).map(|n| format!("elsewhere-{n}")).collect();
    topics.seed_in(0, &ids.iter().map(|id| message(&format!(r#"{{"mine":"{id}"}}"#))).collect::<Vec<_>>());
    let config = Config::new(&topics, &service.origin).limits(&["1000 per 1s"]).set("input.max_open_records", 16);
    let mut daemon = Daemon::start(&config);
    daemon.wait_for("the dead letters", LONG, |_| (topics.read(&topics.dead_letters).len() == 40).then_some(()));
    daemon.stop();

    let mended = config.set("input.custom.id", "/mine");
    let sent = || topics.read(&topics.input).len() - ids.len();
    let are_sent = |count| move || eventually("some are sent", LONG, || (sent() == count).then_some(()));
    let mut daemon = None;
    let refused = mended.run_until(&["replay", "--all"], || {
        are_sent(2)();
        thread::sleep(Duration::from_secs(5));
        assert_eq!(sent(), 2, "two of 16 in the window, until they are decided");
        let other = mended.run_until(&["replay", "--all"], are_sent(4));
        assert!(text(&other).contains("2 dead letters sent back, 0 of them decided"), "{}", text(&other));
        daemon = Some(Daemon::start(&mended));
        eventually("what both have sent is decided", LONG, || (topics.uncommitted() == 0).then_some(()));
        // So long the first looks whether its own are.
        thread::sleep(Duration::from_secs(6));
    });
    assert_eq!((refused.status.code(), sent()), (Some(1), 4), "{}", text(&refused));
    assert!(text(&refused).contains("another replay of"), "{}", text(&refused));
    let rest = replay(&mended, &["--all"], 0);
    assert!(rest.contains("36 dead letters sent back, 36 of them decided"), "{rest}");
    assert_eq!((topics.read(&topics.output).len(), sent()), (40, 40));
    daemon.unwrap().stop();
}
