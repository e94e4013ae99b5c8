//! SIGHUP: what of the configuration takes effect while the daemon runs.

use alert_ips::sim::{Mix, Plan};

use crate::harness::{Broker, Config, Daemon, LONG, Service, Topics};

/// What the program holds itself to, as it tells its own watchers.
fn limit(daemon: &Daemon) -> Option<f64> {
    daemon.metric("alert_ips_limit_calls")
}

#[test]
fn changed_limits_hold_without_a_restart_and_mistakes_change_nothing() {
    let Some(kafka) = Broker::shared() else { return };
    let service = Service::start(&["60 per 10s"], |settings| settings.plan = Plan::new(7, Mix::ALL_FOUND));
    let topics = Topics::create(&kafka.bootstrap, "reload");
    let mut daemon = Daemon::start(&Config::new(&topics, &service.origin).account_line("limits = [\"60 per 10s\"]"));
    daemon.wait_until_ready();
    daemon.wait_for("the limit is told", LONG, |daemon| (limit(daemon) == Some(60.0)).then_some(()));

    daemon.reload(|text| text.replace("60 per 10s", "60 for 10s"));
    daemon.wait_for_log("the daemon goes on as before", LONG);
    assert_eq!(limit(&daemon), Some(60.0));

    daemon.reload(|text| text.replace("60 for 10s", "40 per 10s").replace("\"200ms\"", "\"300ms\""));
    daemon.wait_for_log("these take effect at the next start", LONG);
    daemon.wait_for_log("\"keys\":\"retry.first\"", LONG);
    daemon.wait_for_log("accounts.contoso.limits", LONG);
    daemon.wait_for("the smaller limit holds", LONG, |daemon| (limit(daemon) == Some(40.0)).then_some(()));
    let declared = topics.journal_entries("terms");
    assert!(declared >= 2, "{declared} terms in the journal");

    daemon.reload(|text| text.replace("40 per 10s", "40 per 10h"));
    daemon.wait_for_log("have to be kept for longer", LONG);
    assert_eq!(limit(&daemon), Some(40.0));
    daemon.stop();
    service.assert_no_violation();
}
