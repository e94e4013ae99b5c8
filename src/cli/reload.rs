//! SIGHUP: the configuration is read again. What may change in a running daemon does; the rest waits for a restart.

use super::{Configured, environment, property_problem};
use crate::{
    config::{Effective, Loaded, Settings},
    daemon::Daemon,
};

/// What an account holds itself to, and so what its journal lets it change at any time.
const LIVE_OF_AN_ACCOUNT: [&str; 3] = [".limits", ".max_in_flight", ".share"];

/// The values that the daemon goes by.
pub(super) struct InForce(Vec<Effective>);

impl InForce {
    pub(super) fn new(loaded: &Loaded) -> Self {
        Self(loaded.effective.clone())
    }

    /// Reads the configuration again, and says what came of it. A configuration with mistakes changes nothing.
    pub(super) fn reload(&mut self, configured: &Configured, daemon: &Daemon) {
        let (path, overrides) = (configured.config.as_deref(), &configured.overrides);
        let loaded = match Settings::load(path, overrides, environment(), property_problem) {
            Ok(loaded) => loaded,
            Err(problems) => {
                problems.iter().for_each(|problem| tracing::error!(%problem, "the configuration has a mistake"));
                tracing::error!("SIGHUP: the daemon goes on as before; mend the configuration and send it again");
                return;
            }
        };
        let (live, others): (Vec<_>, Vec<_>) =
            changed(&self.0, &loaded.effective).into_iter().partition(|key| is_live(key));
        if !others.is_empty() {
            tracing::warn!(keys = others.join(", "), "SIGHUP: these take effect at the next start");
        }
        if live.is_empty() {
            let words = if others.is_empty() { "nothing has changed" } else { "nothing else has changed" };
            tracing::info!("SIGHUP: {words}");
            return;
        }
        let refused = daemon.hold_to(&loaded.settings);
        let is_refused = |key: &String| refused.iter().any(|account| key.starts_with(&format!("accounts.{account}.")));
        let (refused, taken): (Vec<_>, Vec<_>) = live.into_iter().partition(is_refused);
        if !refused.is_empty() {
            tracing::warn!(
                keys = refused.join(", "),
                "SIGHUP: the journal would have to be kept for longer than was checked at the start, so these take effect \
                 at the next one"
            );
        }
        if taken.is_empty() {
            return;
        }
        // What waits for a restart is told again with the next one.
        self.0.retain(|value| !taken.contains(&value.key));
        self.0.extend(loaded.effective.into_iter().filter(|value| taken.contains(&value.key)));
        tracing::info!(
            keys = taken.join(", "),
            "SIGHUP: changed; where instances differ, the smaller limits hold until all agree and the calls of before have \
             left the windows"
        );
    }
}

fn is_live(key: &str) -> bool {
    key == "priority.reserve"
        || key.starts_with("accounts.") && LIVE_OF_AN_ACCOUNT.iter().any(|value| key.ends_with(value))
}

/// The keys whose values are not the same, in order.
fn changed(before: &[Effective], after: &[Effective]) -> Vec<String> {
    let has = |all: &[Effective], one: &Effective| all.iter().any(|e| e.key == one.key && e.value == one.value);
    let gone = before.iter().filter(|one| !has(after, one));
    let come = after.iter().filter(|one| !has(before, one));
    let mut keys: Vec<_> = gone.chain(come).map(|one| one.key.clone()).collect();
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::config::Source;

    #[rstest]
    #[case::an_accounts_limits("accounts.contoso.limits", true)]
    #[case::its_share("accounts.contoso.share", true)]
    #[case::the_reserve("priority.reserve", true)]
    #[case::its_registration("accounts.contoso.client_id", false)]
    #[case::another_limit("input.max_open_records", false)]
    fn what_an_account_holds_itself_to_may_change_at_any_time(#[case] key: &str, #[case] expected: bool) {
        assert_eq!(is_live(key), expected);
    }

    #[test]
    fn values_that_differ_that_come_and_that_go_are_changes_and_their_source_is_none() {
        let value = |key: &str, value: &str, source: Source| Effective { key: key.into(), value: value.into(), source };
        let before =
            [value("a", "1", Source::Default), value("b", "1", Source::Default), value("gone", "1", Source::Default)];
        let after = ["a", "b", "come"].map(|key| value(key, if key == "a" { "2" } else { "1" }, Source::Flag));
        assert_eq!(changed(&before, &after), ["a", "come", "gone"]);
    }
}
