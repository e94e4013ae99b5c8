use rdkafka::{Offset, mocking::MockCluster};

use super::*;

/// A consumer with a commit under way, and what it tells.
fn committing(servers: &str) -> (Consumer, mpsc::Receiver<SourceEvent>) {
    let config = KafkaConfig {
        bootstrap_servers: servers.to_owned(),
        group_id: "alert-ips".to_owned(),
        properties: Vec::new(),
        client_id: "test".to_owned(),
        static_member: None,
    };
    let (events, told) = mpsc::channel(8);
    let (notices, _) = mpsc::channel(8);
    let mailbox = Arc::new(Mailbox::default());
    let mut consumer =
        Consumer::new(&config, &["alerts".to_owned()], Start::Earliest, mailbox, events, notices).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("alerts", 0, Offset::Offset(4)).unwrap();
    consumer.commit_in_flight = consumer.connection.commit_soon(list);
    assert!(consumer.commit_in_flight);
    (consumer, told)
}

#[test]
fn before_the_last_commit_of_what_is_revoked_the_one_under_way_is_answered() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("alerts", 1, 1).unwrap();
    let (mut consumer, mut told) = committing(&cluster.bootstrap_servers());
    consumer.see_commit_answered(Duration::from_secs(30));
    assert!(!consumer.commit_in_flight);
    assert!(matches!(told.try_recv(), Ok(SourceEvent::Committed { .. })), "and its answer is told");
}

#[test]
fn a_commit_that_no_broker_answers_holds_up_a_revocation_no_longer_than_its_limit() {
    // A port nobody listens on.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (mut consumer, mut told) = committing(&nobody.to_string());
    consumer.see_commit_answered(Duration::from_millis(200));
    assert!(consumer.commit_in_flight);
    assert!(told.try_recv().is_err());
    // Closing it would wait for the brokers.
    discard(consumer.connection);
}
