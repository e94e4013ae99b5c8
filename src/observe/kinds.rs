//! The closed sets that events are counted by. A label takes no value that is not listed here or in the domain.

use crate::domain::{
    alert::Severity,
    outcome::{Reason, Skip, Status},
    record::Destination,
};

/// How one API call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// A whole answer with this HTTP status.
    Status(u16),
    /// No whole answer in time.
    Timeout,
    /// No connection.
    Connect,
    /// The connection broke before the answer was whole.
    Broken,
    /// An answer that can't be used: not JSON, too large, a redirect.
    BadResponse,
}

impl CallEnd {
    /// The HTTP status of a whole answer that is one.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::Timeout | Self::Connect | Self::Broken | Self::BadResponse => None,
        }
    }
}

/// Why a question is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// 404: the alert may not be visible yet.
    NotVisibleYet,
    /// 429.
    Throttled,
    /// 401: the token was refused.
    Unauthorized,
    /// 403: the account is held.
    Forbidden,
    /// 408, 425 or 5xx.
    ServerError,
    Timeout,
    Connect,
    Broken,
    BadResponse,
}

impl RetryReason {
    const ALL: [Self; 9] = [
        Self::NotVisibleYet,
        Self::Throttled,
        Self::Unauthorized,
        Self::Forbidden,
        Self::ServerError,
        Self::Timeout,
        Self::Connect,
        Self::Broken,
        Self::BadResponse,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::NotVisibleYet => "not_visible_yet",
            Self::Throttled => "throttled",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Broken => "broken",
            Self::BadResponse => "bad_response",
        }
    }
}

/// What became of a claim that was handed to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimEnd {
    Granted,
    /// Others were faster, or ask the same.
    Refused,
    /// It did not come back in time, or could not be appended.
    Lost,
}

impl ClaimEnd {
    const ALL: [Self; 3] = [Self::Granted, Self::Refused, Self::Lost];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// A closed set of label values.
pub(super) trait Kind {
    /// The label's name.
    const LABEL: &'static str;

    /// Every value, as it is written.
    fn names() -> Vec<&'static str>;

    /// Where in [`Kind::names`] this value stands.
    fn index(self) -> usize;
}

/// Makes an enum with `ALL` (in declaration order) and `as_str` a [`Kind`].
macro_rules! kind {
    ($kind:ty, $label:literal) => {
        impl Kind for $kind {
            const LABEL: &'static str = $label;

            fn names() -> Vec<&'static str> {
                Self::ALL.into_iter().map(Self::as_str).collect()
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

kind!(Skip, "reason");
kind!(Reason, "reason");
kind!(RetryReason, "reason");
kind!(ClaimEnd, "end");
kind!(Status, "status");
kind!(Severity, "severity");

impl Kind for Destination {
    const LABEL: &'static str = "destination";

    fn names() -> Vec<&'static str> {
        vec!["output", "dead_letters"]
    }

    fn index(self) -> usize {
        usize::from(!self.is_output())
    }
}

impl CallEnd {
    /// Statuses with a label of their own; the others share one for their class, so that no server can add labels.
    const STATUSES: [(u16, &'static str); 12] = [
        (200, "200"),
        (400, "400"),
        (401, "401"),
        (403, "403"),
        (404, "404"),
        (408, "408"),
        (410, "410"),
        (429, "429"),
        (500, "500"),
        (502, "502"),
        (503, "503"),
        (504, "504"),
    ];
    const OTHERS: [&'static str; 10] =
        ["1xx", "2xx", "3xx", "4xx", "5xx", "other", "timeout", "connect", "broken", "bad_response"];
}

impl Kind for CallEnd {
    const LABEL: &'static str = "code";

    fn names() -> Vec<&'static str> {
        Self::STATUSES.into_iter().map(|(_, name)| name).chain(Self::OTHERS).collect()
    }

    fn index(self) -> usize {
        let other = match self {
            Self::Status(status) => match Self::STATUSES.iter().position(|(known, _)| *known == status) {
                Some(at) => return at,
                None if (100..600).contains(&status) => usize::from(status / 100) - 1,
                None => 5,
            },
            Self::Timeout => 6,
            Self::Connect => 7,
            Self::Broken => 8,
            Self::BadResponse => 9,
        };
        Self::STATUSES.len() + other
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum TokenRefresh {
    Ok,
    Failed,
}

impl TokenRefresh {
    const ALL: [Self; 2] = [Self::Ok, Self::Failed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
        }
    }
}

kind!(TokenRefresh, "result");

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::known(CallEnd::Status(429), "429")]
    #[case::unknown_client_error(CallEnd::Status(418), "4xx")]
    #[case::informational(CallEnd::Status(101), "1xx")]
    #[case::unknown_server_error(CallEnd::Status(599), "5xx")]
    #[case::absurd(CallEnd::Status(999), "other")]
    #[case::zero(CallEnd::Status(0), "other")]
    #[case::timeout(CallEnd::Timeout, "timeout")]
    #[case::connect(CallEnd::Connect, "connect")]
    #[case::broken(CallEnd::Broken, "broken")]
    #[case::bad_response(CallEnd::BadResponse, "bad_response")]
    fn no_server_can_add_a_code(#[case] end: CallEnd, #[case] code: &str) {
        assert_eq!(CallEnd::names()[end.index()], code);
    }

    #[test]
    fn each_value_of_a_kind_counts_under_its_own_name() {
        fn check<K: Kind>(all: impl IntoIterator<Item = (K, &'static str)>) {
            let names = K::names();
            for (kind, name) in all {
                assert_eq!(names[kind.index()], name);
            }
        }
        check(Skip::ALL.map(|kind| (kind, kind.as_str())));
        check(Reason::ALL.map(|kind| (kind, kind.as_str())));
        check(Status::ALL.map(|kind| (kind, kind.as_str())));
        check(Severity::ALL.map(|kind| (kind, kind.as_str())));
        check(ClaimEnd::ALL.map(|kind| (kind, kind.as_str())));
        check(RetryReason::ALL.map(|kind| (kind, kind.as_str())));
        check([
            (Destination::Output(0), "output"),
            (Destination::Output(7), "output"),
            (Destination::DeadLetters, "dead_letters"),
        ]);
    }
}
