//! Where the daemon stands between its start and its end.

use std::fmt;

/// The life of the process. It only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Parts are being built; nothing is consumed yet.
    #[default]
    Starting,
    /// The input is subscribed; records are consumed and settled.
    Running,
    /// Asked to stop: no new calls, calls on the wire finish, outputs are flushed, the last commit is made.
    Draining,
    /// Nothing more happens.
    Stopped,
}

impl Phase {
    pub const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Draining, Self::Stopped];

    /// As written in metrics and on the status page.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_listed_in_the_order_they_come() {
        assert!(Phase::ALL.is_sorted());
        assert_eq!(Phase::ALL.map(|phase| phase.to_string()), ["starting", "running", "draining", "stopped"]);
        assert_eq!(Phase::default(), Phase::ALL[0]);
    }
}
