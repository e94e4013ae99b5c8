use rstest::rstest;

use super::*;

fn reporter() -> (Reporter, mpsc::Receiver<Notice>) {
    let (sender, receiver) = mpsc::channel(16);
    (Reporter::new(Client::Source, "kafka-1:9092", sender), receiver)
}

fn words(notices: &mut mpsc::Receiver<Notice>) -> Option<String> {
    match notices.try_recv().ok()?.news {
        News::Trouble(trouble) => Some(trouble.words().to_owned()),
        other => Some(format!("{other:?}")),
    }
}

#[test]
fn brokers_that_are_down_are_told_once_with_the_cause_and_the_remedy() {
    let (reporter, mut notices) = reporter();
    let refused =
        "kafka-1:9092/bootstrap: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 1ms in state CONNECT)";
    for _ in 0..2 {
        reporter.error(&KafkaError::Global(Code::BrokerTransportFailure), refused);
        reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
    }
    let told = words(&mut notices).unwrap();
    assert!(told.contains("Connection refused; it is tried again by itself"), "{told}");
    assert!(told.contains("kafka.bootstrap_servers (kafka-1:9092)"), "{told}");
    assert_eq!(words(&mut notices), None);
    reporter.working();
    reporter.working();
    assert_eq!(words(&mut notices).as_deref(), Some("Working"));
    assert_eq!(words(&mut notices), None);
}

#[test]
fn that_it_is_not_let_in_is_told_once_and_not_as_a_broker_that_is_down() {
    let (reporter, mut notices) = reporter();
    let from_source =
        "ssl/statem/statem_clnt.c:2125:tls_post_process_server_certificate error:0A000086:SSL routines::failed";
    let told_later = "error:0A000086:SSL routines::failed";
    for reason in [from_source, told_later] {
        let of_broker = format!("kafka-1:9092/bootstrap: {reason} (after 2ms in state SSL_HANDSHAKE)");
        let handshake =
            format!("kafka-1:9092/bootstrap: SSL handshake failed: {reason} (after 2ms in state SSL_HANDSHAKE)");
        reporter.error(&KafkaError::Global(Code::BrokerTransportFailure), &of_broker);
        reporter.error(&KafkaError::Global(Code::SSL), &handshake);
        reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
    }
    let told = words(&mut notices).unwrap();
    assert!(
        told.contains("no encrypted connection to kafka: kafka-1:9092/bootstrap: SSL handshake failed: error:"),
        "{told}"
    );
    assert_eq!(words(&mut notices), None);
    // Then it goes down.
    reporter.error(&KafkaError::Global(Code::BrokerTransportFailure), "kafka-1:9092: Connection refused");
    reporter.error(&KafkaError::Global(Code::AllBrokersDown), "1/1 brokers are down");
    let told = words(&mut notices).unwrap();
    assert!(told.contains("no kafka broker can be reached: kafka-1:9092: Connection refused"), "{told}");
}

#[test]
fn missing_topics_are_told_apart_from_other_trouble() {
    let (reporter, mut notices) = reporter();
    let topics = ["alerts".to_owned(), "more".to_owned()];
    for (missing, inputs, all) in [(&topics[..], 2, true), (&topics[1..], 2, false)] {
        reporter.missing(missing, inputs);
        let Ok(Notice { news: News::Missing(Some(told)), .. }) = notices.try_recv() else { panic!() };
        assert!(told.words.contains(&format!("a topic is missing: input {}; ", missing.join(", "))), "{told:?}");
        assert!(told.words.contains("alert-ips topics --create") && told.all == all, "{told:?}");
        reporter.working();
        assert!(notices.try_recv().is_err(), "it is missing all the same");
    }
    reporter.missing(&[], 2);
    assert_eq!(notices.try_recv().unwrap().news, News::Missing(None));
}

#[rstest]
#[case::topic(Code::UnknownTopicOrPartition, "alert-ips topics --create")]
#[case::sign_in(Code::Authentication, "kafka.properties")]
#[case::right(Code::TopicAuthorizationFailed, "grant")]
#[case::tls(Code::SSL, "ssl.ca.location")]
#[case::group(Code::GroupAuthorizationFailed, "kafka.group_id")]
#[case::transactional_id(Code::TransactionalIdAuthorizationFailed, "transactional id GROUP_ID-INSTANCE_NAME")]
#[case::in_sync(Code::MessageTimedOut, "look for a broker that is down")]
fn each_trouble_says_what_to_do(#[case] code: Code, #[case] remedy: &str) {
    let (reporter, mut notices) = reporter();
    reporter.error(&KafkaError::Global(code), "something");
    let told = words(&mut notices).unwrap();
    assert!(told.contains(remedy), "{told}");
}

#[test]
fn hostile_text_of_a_broker_is_escaped() {
    let (reporter, mut notices) = reporter();
    reporter.error(&KafkaError::Global(Code::Authentication), "bad\u{1b}[31m\r\nroot");
    let told = words(&mut notices).unwrap();
    assert!(!told.contains(char::is_control), "{told}");
}
