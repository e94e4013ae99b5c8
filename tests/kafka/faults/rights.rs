//! Rights that are taken away and given back while the program runs.

use rstest::rstest;

use super::{BOTH, alerts, assert_delivered, config, ids, service};
use crate::harness::{Broker, Daemon, LONG, Node, Topics};

const ALL: &str = "User:ANONYMOUS";

/// A right, and what the operator reads without it.
struct Right<'a> {
    resource: [&'a str; 2],
    operation: &'a str,
    words: [&'a str; 2],
}

#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn without_a_right_it_waits_says_which_and_goes_on_once_it_is_there(#[case] delivery: &str) {
    let Some(model) = Broker::shared() else { return };
    let kafka = Node::with_rights(model);
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "rights");
    let transactional = format!("{}-one", topics.group);
    let mut rights = vec![
        Right {
            resource: ["--topic", &topics.output],
            operation: "Write",
            words: [&topics.output, "write and describe on the output"],
        },
        Right {
            resource: ["--topic", &topics.input],
            operation: "Read",
            words: [&topics.input, "grant read and describe on the input"],
        },
        Right {
            resource: ["--group", &topics.group],
            operation: "Read",
            words: [&topics.group, "grant read on the group"],
        },
    ];
    if delivery == BOTH[1] {
        rights.push(Right {
            resource: ["--transactional-id", &transactional],
            operation: "Write",
            words: [&transactional, "grant write and describe on the transactional id"],
        });
    }
    // Where there is a rule for something, only that is allowed which a rule allows.
    for Right { resource, .. } in &rights {
        kafka.acl(&[&["--add", "--allow-principal", ALL, "--operation", "All"], &resource[..]].concat());
    }
    let mut daemon = Daemon::start(&config(&topics, &service, delivery));
    let mut all = Vec::new();
    for (Right { resource, operation, words }, seed) in rights.iter().zip(1..) {
        daemon.wait_until_ready();
        let denial = [&["--deny-principal", ALL, "--operation", operation], &resource[..]].concat();
        kafka.acl(&[&["--add"], &denial[..]].concat());
        let more = alerts(seed, 20);
        all.extend(ids(&more));
        topics.seed_in(0, &more);
        let told = daemon.wait_for_words(words[1]);
        assert!(told.contains(words[0]), "{told}");
        kafka.acl(&[&["--remove"], &denial[..]].concat());
        assert_delivered(&mut daemon, &topics, &all, delivery);
    }
    daemon.wait_until_ready();

    // Where nothing more comes that would show that reading works again.
    let denial = ["--deny-principal", ALL, "--operation", "Read", "--topic", &topics.input];
    kafka.acl(&[&["--add"], &denial[..]].concat());
    daemon.wait_for("/readyz says 503", LONG, |daemon| daemon.page("/readyz").filter(|(status, _)| *status == 503));
    kafka.acl(&[&["--remove"], &denial[..]].concat());
    daemon.wait_until_ready();
    daemon.finish(&topics);
    daemon.stop();
}
