//! The gauges of one scrape, made from what the accounts last published.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    labels::Labels,
    metrics::PREFIX,
    snapshot::{Snapshot, window_label},
    status::{AccountStatus, BacklogStatus, WindowStatus},
};
use crate::domain::{alert::Severity, phase::Phase};

/// A registry that holds the present values and is thrown away after the scrape.
pub(super) fn registry(snapshot: &Snapshot) -> Registry {
    let mut scrape = Scrape { registry: Registry::with_prefix(PREFIX), snapshot };

    scrape.windows("limit_calls", "Calls that the limit allows in its window", |window| window.calls.into());
    scrape.windows("permits_used", "Slots of the window that are taken now", |window| window.used.into());
    scrape.windows("permits_left", "Slots of the window that a high alert could take now", |window| window.left.into());

    scrape.backlog("backlog", "Lookups that wait", None, |backlog| count(backlog.waiting));
    scrape.backlog("backlog_oldest_age", "How long the oldest lookup waits", Some(Unit::Seconds), |backlog| {
        backlog.oldest.as_secs_f64()
    });

    scrape.accounts(
        "backlog_time_to_empty",
        "Time to empty the backlog at the allowed rate",
        Some(Unit::Seconds),
        |it| it.time_to_empty.as_secs_f64(),
    );
    scrape.accounts("next_slot", "Time until the next slot is free; 0 when one is", Some(Unit::Seconds), |it| {
        it.next_slot_in.unwrap_or_default().as_secs_f64()
    });
    scrape.accounts("calls_in_flight", "Calls on the wire", None, |it| count(it.in_flight));
    scrape.accounts("reask_waiting", "Lookups that wait for a re-ask after a 404", None, |it| count(it.reask_waiting));
    scrape.accounts("retry_waiting", "Lookups that wait after a failure", None, |it| count(it.retry_waiting));
    let spare = "Lookups for what was sent back from the dead letters, which wait until nobody else wants calls";
    scrape.accounts("spare_waiting", spare, None, |it| count(it.spare_waiting));
    scrape.accounts("paused", "1 while the account makes no calls", None, |it| it.paused.is_some().into());
    scrape.phase();
    scrape.registry
}

struct Scrape<'a> {
    registry: Registry,
    snapshot: &'a Snapshot,
}

impl Scrape<'_> {
    fn accounts(&mut self, name: &str, help: &str, unit: Option<Unit>, value: fn(&AccountStatus) -> f64) {
        let values = self.snapshot.accounts.iter();
        let values = values.map(|(account, status)| (Labels::one("account", account.clone()), value(status)));
        let values: Vec<_> = values.collect();
        self.register(name, help, unit, values);
    }

    fn windows(&mut self, name: &str, help: &str, value: fn(&WindowStatus) -> f64) {
        let mut values = Vec::new();
        for (account, status) in &self.snapshot.accounts {
            for window in &status.windows {
                let labels = Labels::one("account", account.clone()).and("window", window_label(window.per));
                values.push((labels, value(window)));
            }
        }
        self.register(name, help, None, values);
    }

    fn backlog(&mut self, name: &str, help: &str, unit: Option<Unit>, value: fn(&BacklogStatus) -> f64) {
        let mut values = Vec::new();
        for (account, status) in &self.snapshot.accounts {
            for (severity, backlog) in Severity::ALL.iter().zip(&status.backlog) {
                let labels = Labels::one("account", account.clone()).and("severity", severity.as_str());
                values.push((labels, value(backlog)));
            }
        }
        self.register(name, help, unit, values);
    }

    fn phase(&mut self) {
        let phase = self.snapshot.phase;
        let values = Phase::ALL.map(|each| (Labels::one("phase", each.as_str()), f64::from(each == phase)));
        self.register("phase", "1 for the phase the daemon is in", None, values);
    }

    fn register(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).set(value);
        }
        match unit {
            Some(unit) => self.registry.register_with_unit(name, help, unit, family),
            None => self.registry.register(name, help, family),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of what is in memory are far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::encoding::text;

    use super::*;
    use crate::observe::status::Pause;

    fn encoded(status: AccountStatus) -> String {
        let snapshot = Snapshot { phase: Phase::Running, accounts: vec![("contoso".into(), status)] };
        let mut text = String::new();
        text::encode_registry(&mut text, &registry(&snapshot)).unwrap();
        text
    }

    #[test]
    fn a_scrape_shows_windows_backlog_and_pause() {
        let mut status = AccountStatus {
            windows: vec![WindowStatus { per: Duration::from_hours(1), calls: 1500, used: 1388, left: 112 }],
            in_flight: 8,
            next_slot_in: Some(Duration::from_secs(41)),
            time_to_empty: Duration::from_secs(988),
            paused: Some(Pause { why: "429".into(), remaining: None, lasting: false }),
            ..AccountStatus::default()
        };
        status.backlog[0] = BacklogStatus { waiting: 412, oldest: Duration::from_millis(1500) };

        let text = encoded(status);
        for line in [
            "alert_ips_limit_calls{account=\"contoso\",window=\"1h\"} 1500.0",
            "alert_ips_permits_used{account=\"contoso\",window=\"1h\"} 1388.0",
            "alert_ips_permits_left{account=\"contoso\",window=\"1h\"} 112.0",
            "alert_ips_backlog{account=\"contoso\",severity=\"high\"} 412.0",
            "alert_ips_backlog{account=\"contoso\",severity=\"low\"} 0.0",
            "alert_ips_backlog_oldest_age_seconds{account=\"contoso\",severity=\"high\"} 1.5",
            "alert_ips_backlog_time_to_empty_seconds{account=\"contoso\"} 988.0",
            "alert_ips_next_slot_seconds{account=\"contoso\"} 41.0",
            "alert_ips_calls_in_flight{account=\"contoso\"} 8.0",
            "alert_ips_paused{account=\"contoso\"} 1.0",
            "alert_ips_phase{phase=\"running\"} 1.0",
            "alert_ips_phase{phase=\"draining\"} 0.0",
        ] {
            assert!(text.lines().any(|found| found == line), "no line {line:?} in:\n{text}");
        }
    }

    #[test]
    fn the_text_of_a_pause_is_no_label() {
        let why = "\u{1b}[31m\nhostile".to_owned();
        let text = encoded(AccountStatus {
            paused: Some(Pause { why, remaining: None, lasting: false }),
            ..AccountStatus::default()
        });
        assert!(!text.contains("hostile"));
    }
}
