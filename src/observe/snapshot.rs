//! Where readers (admin HTTP, metrics, systemd) find the present state of the daemon and its accounts.
//!
//! The owners publish into `watch` channels; a reader takes a [`Snapshot`] and never makes an owner wait.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::status::AccountStatus;
use crate::domain::phase::Phase;

/// The reading ends of everything that is published. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watches {
    phase: watch::Receiver<Phase>,
    accounts: Arc<[(Arc<str>, watch::Receiver<AccountStatus>)]>,
}

impl Watches {
    /// `accounts`: the configured name of each with what its owner publishes.
    pub fn new(
        phase: watch::Receiver<Phase>,
        accounts: impl IntoIterator<Item = (Arc<str>, watch::Receiver<AccountStatus>)>,
    ) -> Self {
        Self { phase, accounts: accounts.into_iter().collect() }
    }

    /// Everything as it was published last.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            phase: *self.phase.borrow(),
            accounts: self.accounts.iter().map(|(name, status)| (name.clone(), status.borrow().clone())).collect(),
        }
    }

    /// Waits until the phase is another than it was at the last call; `None` once nobody can change it any more.
    pub async fn phase_changed(&mut self) -> Option<Phase> {
        self.phase.changed().await.ok()?;
        Some(*self.phase.borrow_and_update())
    }
}

/// The daemon at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    pub phase: Phase,
    /// By configured name, in the order of the configuration.
    pub accounts: Vec<(Arc<str>, AccountStatus)>,
}

/// A limit's period as it labels a metric: `1m`, `1h`, `1m30s`.
pub fn window_label(per: Duration) -> String {
    humantime::format_duration(per).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(60, "1m")]
    #[case(3600, "1h")]
    #[case(90, "1m30s")]
    #[case(86_400, "1day")]
    fn windows_are_labelled_by_their_period(#[case] seconds: u64, #[case] label: &str) {
        assert_eq!(window_label(Duration::from_secs(seconds)), label);
    }

    #[tokio::test]
    async fn a_snapshot_is_what_was_published_last() {
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let (account, account_seen) = watch::channel(AccountStatus::default());
        let mut watches = Watches::new(phase_seen, [("contoso".into(), account_seen)]);

        phase.send(Phase::Running).unwrap();
        account.send_modify(|status| status.in_flight = 3);

        assert_eq!(watches.phase_changed().await, Some(Phase::Running));
        let snapshot = watches.snapshot();
        assert_eq!((snapshot.phase, snapshot.accounts[0].1.in_flight), (Phase::Running, 3));
        drop(phase);
        assert_eq!(watches.phase_changed().await, None);
    }
}
