//! How the input is. What stands against it is known apart, so that what is over does not hide what is not.

use std::time::Duration;

use crate::{
    domain::time::BootTime,
    kafka::notice::{Missing, News},
    observe::health::{Condition, Reporter},
};

/// Commits that fail for so long are told: a rebalance or a restart of a broker makes one or two fail.
const COMMITS_FAIL_FOR: Duration = Duration::from_secs(15);

/// The input's part of [`Health`](crate::observe::health::Health).
pub struct InputHealth {
    reporter: Reporter,
    /// Whether the group has said what this instance is to read.
    has_joined: bool,
    /// What the source reported last.
    trouble: Option<String>,
    missing: Option<Missing>,
    commits: Option<CommitsFail>,
}

struct CommitsFail {
    /// The last one's reason.
    error: String,
    since: BootTime,
    /// Whether that is told, and not only logged.
    is_told: bool,
}

impl InputHealth {
    /// As a part that has not joined its group yet.
    pub const fn new(reporter: Reporter) -> Self {
        Self { reporter, has_joined: false, trouble: None, missing: None, commits: None }
    }

    /// Says how it is, also where nothing has changed.
    pub(super) fn tell(&self) {
        self.reporter.set(self.condition());
    }

    /// The group has said what is to be read.
    pub(super) fn joined(&mut self) {
        self.has_joined = true;
        self.tell();
    }

    /// News of the connection to the brokers.
    pub(super) fn heard(&mut self, news: News) {
        match news {
            News::Trouble(trouble) => self.trouble = Some(trouble.words().to_owned()),
            News::Working => self.trouble = None,
            News::Joined => self.has_joined = true,
            News::Missing(missing) => self.missing = missing,
            News::Offsets(_) => return,
        }
        self.tell();
    }

    /// A commit succeeded.
    pub(super) fn committed(&mut self) {
        if self.commits.take().is_some() {
            tracing::info!("commits succeed again");
            self.tell();
        }
    }

    /// A commit failed. That is logged once, and told where it goes on.
    pub(super) fn not_committed(&mut self, error: String, now: BootTime) {
        if self.commits.as_ref().is_none_or(|known| known.error != error) {
            tracing::warn!(
                %error,
                "a commit failed; it is made again every second, and what is not committed is read again after a restart"
            );
        }
        let (since, is_told) = self.commits.take().map_or((now, false), |known| (known.since, known.is_told));
        let is_told = is_told || now.saturating_since(since) >= COMMITS_FAIL_FOR;
        self.commits = Some(CommitsFail { error, since, is_told });
        self.tell();
    }

    fn condition(&self) -> Condition {
        let commits = self.commits.as_ref().filter(|commits| commits.is_told);
        match (&self.trouble, &self.missing, commits) {
            (Some(words), ..) | (None, Some(Missing { words, all: true }), _) => Condition::Waiting(words.clone()),
            _ if !self.has_joined => Condition::Starting(
                "joining the consumer group; after a crash the brokers first wait for the old member's session to end \
                 (session.timeout.ms: 45 s unless set)"
                    .to_owned(),
            ),
            (_, _, Some(CommitsFail { error, .. })) => Condition::Waiting(format!(
                "commits fail: {error}; they are made again every second; until one succeeds, a restart publishes again what is \
                 published now; look at the brokers' __consumer_offsets, at this group's rights, and whether \
                 input.max_commit_metadata is more than their offset.metadata.max.bytes"
            )),
            (_, Some(Missing { words, .. }), None) => Condition::Degraded(words.clone()),
            (None, None, None) => Condition::Ok,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::Clock, kafka::notice::Trouble, observe::health::Health};

    struct Told {
        input: InputHealth,
        health: Health,
    }

    impl Told {
        fn new() -> Self {
            let health = Health::new(Clock::machine());
            Self { input: InputHealth::new(health.part("input")), health }
        }

        fn hear(&mut self, news: News) -> &Self {
            self.input.heard(news);
            self
        }

        /// State and the beginning of the words.
        fn says(&self) -> String {
            let condition = self.health.report().remove(0).condition;
            let words = condition.words().unwrap_or_default();
            format!("{}: {}", condition.state(), words.split([';', ':']).next().unwrap())
        }
    }

    fn missing(all: bool) -> News {
        News::Missing(Some(Missing { words: "a topic is missing".to_owned(), all }))
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_origin(Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_over_does_not_hide_what_stands() {
        let mut told = Told::new();
        let trouble = News::Trouble(Trouble::Other("no broker".to_owned()));
        told.input.tell();
        assert_eq!(told.says(), "starting: joining the consumer group");
        assert_eq!(told.hear(missing(false)).says(), "starting: joining the consumer group");
        told.input.joined();
        assert_eq!(told.says(), "degraded: a topic is missing");
        assert_eq!(told.hear(trouble).says(), "waiting: no broker");
        told.input.joined();
        assert_eq!(told.says(), "waiting: no broker");
        assert_eq!(told.hear(missing(true)).says(), "waiting: no broker");
        assert_eq!(told.hear(News::Working).says(), "waiting: a topic is missing");
        told.input.committed();
        assert_eq!(told.says(), "waiting: a topic is missing");
        assert_eq!(told.hear(News::Missing(None)).says(), "ok: ");
    }

    #[test]
    fn commits_that_fail_are_told_after_a_while_and_until_one_succeeds() {
        let mut told = Told::new();
        told.input.joined();
        told.input.not_committed("refused".to_owned(), at(100));
        assert_eq!(told.says(), "ok: ");
        told.input.not_committed("refused otherwise".to_owned(), at(115));
        assert_eq!(told.says(), "waiting: commits fail");
        assert_eq!(told.hear(missing(false)).says(), "waiting: commits fail");
        told.input.committed();
        assert_eq!(told.says(), "degraded: a topic is missing");
        told.input.not_committed("refused".to_owned(), at(200));
        assert_eq!(told.says(), "degraded: a topic is missing", "it begins anew");
    }
}
