//! Two tenants on the same instances: each account has its own budget, its own entries in the journal, and its own troubles.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    sim::{Latency, Mix, Plan, Settings, world::TENANT},
};
use rstest::rstest;

use super::{LIMITS, alert_of, calls, config, high_alerts, ids, service};
use crate::harness::{Broker, CLIENT, Config, Daemon, JournalMessage, LONG, Service, Topics};

/// The second tenant and its app registration. Both ids together lie in another partition of the journal than the first.
pub(crate) const OTHER_TENANT: &str = "22222222-3333-4444-5555-666666666666";
pub(crate) const OTHER_CLIENT: &str = "77777777-8888-9999-0000-111111111111";

/// What `share = 0.5` leaves of `LIMITS`: so much the second tenant's service allows.
const HALF: [&str; 2] = ["10 per 1s", "30 per 10s"];

/// Contoso may use its limits alone, fabrikam half of them.
struct TwoTenants {
    contoso: Service,
    fabrikam: Service,
    topics: Topics,
    config: Config,
    /// Each one's alerts.
    ids: [BTreeSet<String>; 2],
}

impl TwoTenants {
    fn new(kafka: &Broker, test: &str) -> Self {
        let settings = |settings: &mut Settings| {
            settings.plan = Plan::new(7, Mix::ALL_FOUND);
            settings.latency = Latency::Uniform { from: Duration::from_millis(20), to: Duration::from_millis(100) };
        };
        let (contoso, fabrikam) = (service(settings), Service::start(&HALF, settings));
        let topics = Topics::create(&kafka.bootstrap, test);
        let alerts = [high_alerts(17, TENANT, 1_000), high_alerts(18, OTHER_TENANT, 1_000)];
        let ids = [ids(&alerts[0]), ids(&alerts[1])];
        let [ours, theirs] = alerts;
        topics.seed(ours.into_iter().zip(theirs).flat_map(|(one, other)| [one, other]).collect());
        let config = config(&topics, &contoso)
            .account("fabrikam", OTHER_TENANT, OTHER_CLIENT, &fabrikam.origin)
            .set("accounts.fabrikam.limits", LIMITS.join(", "))
            .set("accounts.fabrikam.share", 0.5);
        Self { contoso, fabrikam, topics, config, ids }
    }

    fn start(&self) -> [Daemon; 2] {
        ["one", "two"].map(|name| Daemon::start(&self.config.clone().instance(name)))
    }

    fn calls(&self) -> [u64; 2] {
        [&self.contoso, &self.fabrikam].map(calls)
    }

    /// Each service was asked about its own tenant's alerts, and within its limits.
    fn assert_calls_are_each_ones_own(&self) {
        for (service, ids) in [&self.contoso, &self.fabrikam].into_iter().zip(&self.ids) {
            service.assert_no_violation();
            for call in service.sim.calls() {
                assert!(ids.contains(alert_of(&call)), "{}", call.path);
            }
        }
    }

    /// The journal's messages by account.
    fn journals(&self) -> [Vec<JournalMessage>; 2] {
        let mut journals: BTreeMap<String, Vec<_>> = BTreeMap::new();
        for message in self.topics.read_journals() {
            journals.entry(message.key.clone()).or_default().push(message);
        }
        let keys = [format!("{TENANT}/{CLIENT}"), format!("{OTHER_TENANT}/{OTHER_CLIENT}")];
        let both = keys.map(|key| journals.remove(&key).unwrap());
        assert!(journals.is_empty(), "entries of nobody: {:?}", journals.keys());
        both
    }
}

#[test]
fn each_account_keeps_its_own_budget_in_its_own_partition() {
    let Some(kafka) = Broker::shared() else { return };
    let tenants = TwoTenants::new(kafka, "accounts");
    let mut daemons = tenants.start();
    daemons[0].wait_for("more calls than the longest windows hold at once", LONG, |_| {
        let [contoso, fabrikam] = tenants.calls();
        (contoso >= 100 && fabrikam >= 50).then_some(())
    });
    daemons.into_iter().for_each(Daemon::stop);

    tenants.assert_calls_are_each_ones_own();
    let [contoso, fabrikam] = [&tenants.contoso, &tenants.fabrikam].map(|service| service.sim.windows()[1].worst);
    eprintln!("fullest windows of 10 s: {contoso} of 60, {fabrikam} of 30");
    assert!(contoso > 30, "{contoso}: the one had no more than the other's part");
    assert!(fabrikam > 20, "{fabrikam}: its part was never put to the test");

    let journals = tenants.journals();
    let partitions = journals.each_ref().map(|journal| {
        let partitions: BTreeSet<_> = journal.iter().map(|message| message.partition).collect();
        assert_eq!(partitions.len(), 1, "the entries of an account are in one order: {partitions:?}");
        partitions.into_iter().next().unwrap()
    });
    assert_ne!(partitions[0], partitions[1]);
    for (journal, ids) in journals.iter().zip(&tenants.ids) {
        let writers: BTreeSet<_> = journal.iter().map(JournalMessage::writer).collect();
        assert_eq!(writers.len(), 2, "both instances write for both accounts");
        for claim in journal.iter().flat_map(|message| message.entries("claim")) {
            assert!(ids.contains(claim["alert"].as_str().unwrap()), "a claim of another account: {claim}");
        }
    }
}

#[rstest]
#[case::frozen(429, |service: &Service, lasts| {
    let until = Clock::machine().boot() + lasts;
    service.sim.switch(|switches| switches.frozen_until = Some(until));
})]
#[case::refused(403, |service: &Service, _| service.sim.switch(|switches| switches.forbid = true))]
fn an_account_that_may_not_call_does_not_delay_the_other(
    #[case] status: u16,
    #[case] forbid: impl Fn(&Service, Duration),
) {
    const WATCHED: Duration = Duration::from_secs(20);
    let Some(kafka) = Broker::shared() else { return };
    let tenants = TwoTenants::new(kafka, "troubled");
    let mut daemons = tenants.start();
    for daemon in &mut daemons {
        daemon.wait_for("calls of every instance", LONG, |daemon| {
            (daemon.metric("alert_ips_api_calls_total")? >= 10.0).then_some(())
        });
    }
    daemons[0]
        .wait_for("calls of both accounts", LONG, |_| tenants.calls().iter().all(|calls| *calls >= 10).then_some(()));

    forbid(&tenants.contoso, 2 * WATCHED);
    for daemon in &mut daemons {
        daemon.wait_for("it is told of the one account", LONG, |daemon| {
            let why = daemon.paused("contoso")?["why"].as_str()?.to_owned();
            why.contains(&status.to_string()).then_some(())
        });
    }
    let [contoso, fabrikam] = tenants.calls();
    thread::sleep(WATCHED);
    let [contoso, fabrikam] = [tenants.calls()[0] - contoso, tenants.calls()[1] - fabrikam];
    eprintln!("within {} s: {contoso} calls of the one that may not, {fabrikam} of the other", WATCHED.as_secs());
    assert_eq!(contoso, 0, "calls of an account that may not call");
    // Its windows hold 28 in 10.2 s and the time of a call.
    assert!(fabrikam >= 40, "{fabrikam} calls: the other account was delayed");
    for daemon in &daemons {
        assert!(daemon.paused("fabrikam").unwrap().is_null(), "{:?}", daemon.paused("fabrikam"));
    }
    daemons.into_iter().for_each(Daemon::stop);
    tenants.assert_calls_are_each_ones_own();
    let freezes = tenants
        .journals()
        .map(|journal| journal.iter().map(|message| message.entries("freeze").count()).sum::<usize>());
    assert_eq!((freezes[0] > 0, freezes[1]), (status == 429, 0), "whose pause it is: {freezes:?}");
}
