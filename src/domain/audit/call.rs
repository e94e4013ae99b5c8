//! One call, as the journal's entries tell of it.

use std::{sync::Arc, time::Duration};

use crate::domain::{
    alert::{AlertId, Severity},
    journal::{EntryId, Reached},
    outcome::Status,
    time::JournalTime,
};

/// A claim that was granted, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub claim: EntryId,
    /// When its claim was granted; `None` where that is not among what was read.
    pub claimed: Option<JournalTime>,
    /// Whose it is; `None` for an unanswered call that was claimed before what was read.
    pub instance: Option<Arc<str>>,
    pub alert: AlertId,
    /// As the claim says; `None` where that is not among what was read.
    pub severity: Option<Severity>,
    pub cause: Cause,
    pub end: End,
    /// When it is given up, answered or not: its permit has expired, and its call has timed out.
    pub lapse: JournalTime,
    /// Its claim was refused, and its writer made the call nevertheless.
    pub divergent: bool,
}

/// Why a call was made, by what was read of the alert before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Nothing was asked about the alert before, within what was read.
    First,
    /// The service did not know the alert yet.
    AfterNotFound,
    /// The call before failed, or was not answered in a way that can be used.
    AfterFailure,
    /// The call before was answered with 2xx, and that was not the end: there were further pages.
    AfterUnfinished,
    /// The question was answered before, for good.
    Repeat,
    /// Its claim is not among what was read.
    Unknown,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It may be on the wire.
    Open,
    /// It was never answered. A late answer may still come.
    GivenUp,
    /// Its answer's entry came.
    Answered { at: JournalTime, reached: Reached, status: Option<u16>, outcome: Option<Status> },
}

/// What a call led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Yield {
    /// An answer for good.
    Outcome(Status),
    /// 404, to be asked again.
    NotYet,
    /// 2xx that was not the end: a page of several.
    Unfinished,
    /// The service, or something before it, answered with an error.
    Failed,
    /// No answer came, or none that can be used; the service may have counted the call.
    Unknown,
    /// No answer's entry came in time: the instance, or its way to the journal, was gone.
    GivenUp,
    /// It may be on the wire.
    Open,
    /// The service was not reached, so it has not counted it.
    Never,
    /// The permit was given back or has expired.
    Unused,
}

impl Call {
    /// What it led to.
    pub fn led_to(&self) -> Yield {
        let End::Answered { reached, status, outcome, .. } = self.end else {
            return if self.end == End::Open { Yield::Open } else { Yield::GivenUp };
        };
        match (reached, status, outcome) {
            (Reached::Unused, ..) => Yield::Unused,
            (Reached::Never, ..) => Yield::Never,
            (Reached::Unknown, ..) => Yield::Unknown,
            (Reached::Complete, _, Some(outcome)) => Yield::Outcome(outcome),
            (Reached::Complete, Some(404), None) => Yield::NotYet,
            (Reached::Complete, Some(200..=299), None) => Yield::Unfinished,
            (Reached::Complete, ..) => Yield::Failed,
        }
    }

    /// Whether the service can have counted it.
    pub fn counts(&self) -> bool {
        !matches!(self.led_to(), Yield::Never | Yield::Unused)
    }

    /// When it belongs to a period: its claim, or, where that was not read, its answer.
    pub fn at(&self) -> JournalTime {
        self.claimed.or(self.answered()).unwrap_or(self.lapse)
    }

    /// When its answer's entry came.
    pub fn answered(&self) -> Option<JournalTime> {
        if let End::Answered { at, .. } = self.end { Some(at) } else { None }
    }

    /// The HTTP status, where one came.
    pub fn status(&self) -> Option<u16> {
        if let End::Answered { status, .. } = self.end { status } else { None }
    }

    /// Whether the service can have counted it, as its instance says.
    pub fn reached(&self) -> Option<Reached> {
        if let End::Answered { reached, .. } = self.end { Some(reached) } else { None }
    }

    /// From its claim's entry to its answer's.
    pub fn took(&self) -> Option<Duration> {
        Some(self.answered()?.saturating_since(self.claimed?))
    }

    /// From when to when the service can have counted it: from its claim to its answer, or, where none came, until it is
    /// given up. These are the very points from which the budget reckons when a slot is free.
    pub fn span(&self) -> (JournalTime, JournalTime) {
        let until = match self.end {
            End::Answered { at, reached: Reached::Complete, .. } => at,
            _ => self.lapse,
        };
        (self.claimed.unwrap_or_default(), until)
    }
}

impl Cause {
    pub const ALL: [Self; 6] =
        [Self::First, Self::AfterNotFound, Self::AfterFailure, Self::AfterUnfinished, Self::Repeat, Self::Unknown];

    /// As written for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::AfterNotFound => "after_404",
            Self::AfterFailure => "after_failure",
            Self::AfterUnfinished => "after_unfinished",
            Self::Repeat => "repeat",
            Self::Unknown => "unknown",
        }
    }
}

impl Yield {
    /// As written for programs; an outcome's status as in output records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outcome(status) => status.as_str(),
            Self::NotYet => "not_yet",
            Self::Unfinished => "unfinished",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::GivenUp => "given_up",
            Self::Open => "open",
            Self::Never => "never",
            Self::Unused => "unused",
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::journal::WriterId;

    fn at(second: u64) -> JournalTime {
        JournalTime::from_origin(Duration::from_secs(second))
    }

    fn ended(end: End) -> Call {
        Call {
            claim: EntryId { writer: WriterId(1), number: 1 },
            claimed: Some(at(100)),
            instance: None,
            alert: AlertId::parse("da1_1").unwrap(),
            severity: None,
            cause: Cause::First,
            end,
            lapse: at(145),
            divergent: false,
        }
    }

    fn answered(reached: Reached, status: Option<u16>, outcome: Option<Status>) -> Call {
        ended(End::Answered { at: at(103), reached, status, outcome })
    }

    #[rstest]
    #[case::found(
        answered(Reached::Complete, Some(200), Some(Status::Found)),
        Yield::Outcome(Status::Found),
        true,
        103
    )]
    #[case::gone(
        answered(Reached::Complete, Some(404), Some(Status::NotFound)),
        Yield::Outcome(Status::NotFound),
        true,
        103
    )]
    #[case::not_yet(answered(Reached::Complete, Some(404), None), Yield::NotYet, true, 103)]
    #[case::page(answered(Reached::Complete, Some(200), None), Yield::Unfinished, true, 103)]
    #[case::throttled(answered(Reached::Complete, Some(429), None), Yield::Failed, true, 103)]
    #[case::no_status(answered(Reached::Complete, None, None), Yield::Failed, true, 103)]
    #[case::timed_out(answered(Reached::Unknown, None, None), Yield::Unknown, true, 145)]
    #[case::no_connection(answered(Reached::Never, None, None), Yield::Never, false, 145)]
    #[case::given_back(answered(Reached::Unused, None, None), Yield::Unused, false, 145)]
    #[case::killed(ended(End::GivenUp), Yield::GivenUp, true, 145)]
    #[case::on_the_wire(ended(End::Open), Yield::Open, true, 145)]
    fn what_a_call_led_to_says_whether_and_until_when_it_can_have_been_counted(
        #[case] call: Call,
        #[case] led_to: Yield,
        #[case] counts: bool,
        #[case] until: u64,
    ) {
        assert_eq!((call.led_to(), call.counts(), call.span()), (led_to, counts, (at(100), at(until))));
    }
}
