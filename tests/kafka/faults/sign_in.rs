//! Kafka does not let the program in any more, for who it is or for who the broker is.

use std::{fs, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rstest::rstest;
use tempfile::TempDir;

use super::{BOTH, alerts, assert_delivered, config, ids, service};
use crate::harness::{Broker, Daemon, Node, Topics};

const USER: &str = "alert-ips";
const PASSWORD: &str = "canary-password";

/// A certificate authority of the test's own, and what it has issued to a broker.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority of the test");
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("authority.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), folder }
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// The broker's key and certificate.
    fn identity(&self) -> PathBuf {
        self.folder.path().join("broker.pem")
    }

    fn issue(&self, expired: bool) {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        if expired {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.identity(), key.serialize_pem() + &certificate.pem()).unwrap();
    }
}

#[rstest]
#[case::at_least_once(BOTH[0])]
#[case::exactly_once(BOTH[1])]
fn while_it_is_not_let_in_it_waits_says_why_and_goes_on_once_it_is(#[case] delivery: &str) {
    let Some(model) = Broker::shared() else { return };
    let authority = Authority::new();
    authority.issue(false);
    let mut kafka = Node::with_sign_in(model, &authority.identity());
    kafka.user(USER, Some(PASSWORD));
    let service = service();
    let topics = Topics::create(&kafka.bootstrap, "sign-in");
    let config = config(&topics, &service, delivery)
        .set("kafka.bootstrap_servers", kafka.encrypted())
        .property("security.protocol", "SASL_SSL")
        .property("ssl.ca.location", authority.certificate().display())
        .property("sasl.mechanism", "SCRAM-SHA-256")
        .property("sasl.username", USER)
        .property("sasl.password", PASSWORD)
        .property("reconnect.backoff.max.ms", 1_000);
    let mut daemon = Daemon::start(&config);
    let mut all = Vec::new();

    daemon.wait_until_ready();
    kafka.user(USER, None);
    restart(&mut kafka);
    all.extend(seed(&topics, 1));
    daemon.wait_for_words("kafka refuses the sign-in");
    kafka.user(USER, Some(PASSWORD));
    assert_delivered(&mut daemon, &topics, &all, delivery);

    daemon.wait_until_ready();
    authority.issue(true);
    restart(&mut kafka);
    all.extend(seed(&topics, 2));
    daemon.wait_for_words("no encrypted connection to kafka");
    authority.issue(false);
    restart(&mut kafka);
    assert_delivered(&mut daemon, &topics, &all, delivery);

    daemon.wait_until_ready();
    daemon.finish(&topics);
    assert!(!daemon.log().contains(PASSWORD));
    daemon.stop();
}

/// Connections of before do not outlive it.
fn restart(kafka: &mut Node) {
    kafka.stop();
    kafka.start();
}

fn seed(topics: &Topics, seed: u64) -> Vec<String> {
    let more = alerts(seed, 20);
    topics.seed_in(0, &more);
    ids(&more)
}
