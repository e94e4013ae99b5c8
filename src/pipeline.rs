//! The whole life of one record, from top to bottom: decode, look up, encode.
//!
//! It returns what to write and never produces by itself; a dead letter is one more thing to write. So every way of
//! delivering, and every test, shares this one path.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};

use crate::{
    clock::Clock,
    decode::{Indexed, decode},
    defender::account::{AccountHandle, LetGo, Pending},
    domain::{
        alert::{Alert, Severity},
        dead_letter::DeadLetter,
        outcome::{Outcome, Reason, Rejection, Status},
        record::{Outgoing, Record},
        related_ips::RelatedIps,
    },
    encode::{OutputFormat, encode},
    observe::metrics::Metrics,
};

/// What every record's life needs. Shared by all of them.
pub struct Pipeline {
    pub accounts: Accounts,
    pub format: OutputFormat,
    /// Alerts whose latest known time is longer ago are not asked about.
    pub max_age: Duration,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// A record whose alerts are all decided.
#[derive(Debug)]
pub struct Processed {
    /// The record itself: what is refused by the broker as too large still becomes a dead letter.
    pub record: Record,
    /// To be acknowledged before the record is settled. Empty for a record that was skipped.
    pub writes: Vec<Write>,
}

/// One message to produce, and what it stands for.
#[derive(Debug)]
pub struct Write {
    pub outgoing: Outgoing,
    pub what: Written,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The outcome of an alert of this severity, whose record has this Kafka timestamp.
    Outcome { severity: Severity, since: Timestamp },
    /// The record itself, for this rejection.
    DeadLetter(Rejection),
}

impl Pipeline {
    /// Decides every alert of a record. Takes as long as its lookups take: from microseconds to hours.
    pub async fn process(&self, record: Record) -> Result<Processed, LetGo> {
        let since = record.timestamp.unwrap_or_else(|| self.clock.wall());
        // Boxed: a record may wait for hours, and need not hold the room that putting its questions took.
        let Put { questions, mut rejections } = Box::pin(self.put_all(&record, since)).await?;
        let mut writes = Vec::with_capacity(questions.len());
        for (index, alert, question) in questions {
            match question.answer().await? {
                Ok(outcome) => writes.push(self.outcome(&record, since, index, &alert, &outcome)),
                Err(rejection) => rejections.push(named(&alert, &rejection)),
            }
        }
        if let Some(rejection) = merged(rejections) {
            writes.push(dead_letter(record.clone(), rejection, self.clock.wall(), usize::MAX));
        }
        Ok(Processed { record, writes })
    }

    /// Puts all questions before the first answer is awaited, so that their order is the account's to choose.
    async fn put_all(&self, record: &Record, since: Timestamp) -> Result<Put, LetGo> {
        let decoded = decode(record.payload.as_deref());
        decoded.skips.iter().for_each(|skip| self.metrics.skipped(*skip));
        let mut questions = Vec::with_capacity(decoded.alerts.len());
        for Indexed { index, alert } in decoded.alerts {
            self.metrics.alert_decoded(alert.severity);
            let question = self.put(&alert, since).await?;
            questions.push((index, alert, question));
        }
        Ok(Put { questions, rejections: decoded.rejection.into_iter().collect() })
    }

    async fn put(&self, alert: &Alert, since: Timestamp) -> Result<Question, LetGo> {
        let account = match self.accounts.of(alert) {
            Ok(account) => account,
            Err(rejection) => return Ok(Question::Decided(Err(rejection))),
        };
        let now = self.clock.wall();
        if is_older(alert, self.max_age, now) {
            let outcome = Outcome { status: Status::Expired, ips: RelatedIps::default(), retrieved_at: now };
            return Ok(Question::Decided(Ok(outcome)));
        }
        account.ask(alert.clone(), since).await.map(Question::Asked)
    }

    fn outcome(&self, record: &Record, since: Timestamp, index: usize, alert: &Alert, outcome: &Outcome) -> Write {
        self.metrics.outcome_reached(outcome.status);
        let tenant = self.accounts.tenant_of(alert);
        let outgoing = encode(self.format, &record.receipt, index, alert, tenant, outcome, &record.headers);
        Write { outgoing, what: Written::Outcome { severity: alert.severity, since } }
    }
}

/// What a record asks: its questions, each with the alert's place in the message, and what was rejected before.
struct Put {
    questions: Vec<(usize, Alert, Question)>,
    rejections: Vec<Rejection>,
}

/// An alert's question: decided at once, or put to its account.
enum Question {
    Decided(Result<Outcome, Rejection>),
    Asked(Pending),
}

impl Question {
    async fn answer(self) -> Result<Result<Outcome, Rejection>, LetGo> {
        match self {
            Self::Decided(result) => Ok(result),
            Self::Asked(pending) => pending.answer().await,
        }
    }
}

/// The configured accounts, by tenant.
pub struct Accounts {
    /// Tenant ids in lower case. Never empty.
    accounts: Vec<(Arc<str>, AccountHandle)>,
    by_tenant: HashMap<Arc<str>, usize>,
}

impl Accounts {
    /// `accounts`: each with its tenant id; at least one, no tenant twice.
    pub fn new(accounts: impl IntoIterator<Item = (String, AccountHandle)>) -> Self {
        let accounts: Vec<(Arc<str>, AccountHandle)> =
            accounts.into_iter().map(|(tenant, account)| (tenant.to_lowercase().into(), account)).collect();
        let by_tenant = accounts.iter().enumerate().map(|(n, (tenant, _))| (tenant.clone(), n)).collect();
        Self { accounts, by_tenant }
    }

    /// With one account every alert is its; with several, an alert is its tenant's.
    fn of(&self, alert: &Alert) -> Result<&AccountHandle, Rejection> {
        if let [(_, only)] = self.accounts.as_slice() {
            return Ok(only);
        }
        let rejection = |detail: String| Rejection { reason: Reason::UnknownTenant, detail };
        let tenant = alert.tenant.as_ref().ok_or_else(|| {
            rejection(
                "the alert names no tenant, and several accounts are configured: which one to ask is unknown".into(),
            )
        })?;
        let n = self.by_tenant.get(tenant).ok_or_else(|| {
            let tenant = tenant.escape_default();
            rejection(format!(
                "no account is configured for the tenant {tenant}: add [accounts.NAME] with its tenant_id"
            ))
        })?;
        Ok(&self.accounts[*n].1)
    }

    fn tenant_of<'a>(&'a self, alert: &'a Alert) -> &'a str {
        match self.accounts.as_slice() {
            [(only, _)] => only,
            _ => alert.tenant.as_deref().unwrap_or_default(),
        }
    }
}

/// A record as a dead letter, of at most `limit` bytes.
pub fn dead_letter(record: Record, rejection: Rejection, at: Timestamp, limit: usize) -> Write {
    let outgoing = DeadLetter::new(record, &rejection, at).truncated(limit).into_outgoing();
    Write { outgoing, what: Written::DeadLetter(rejection) }
}

fn is_older(alert: &Alert, max_age: Duration, now: Timestamp) -> bool {
    let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    alert.latest_known().is_some_and(|latest| now.duration_since(latest) > max_age)
}

/// Says which alert of the record was rejected.
fn named(alert: &Alert, rejection: &Rejection) -> Rejection {
    Rejection { reason: rejection.reason, detail: format!("alert {}: {}", alert.id, rejection.detail) }
}

/// One record gives at most one dead letter: it carries the whole record anyway.
fn merged(rejections: Vec<Rejection>) -> Option<Rejection> {
    let mut rejections = rejections.into_iter();
    let mut merged = rejections.next()?;
    for rejection in rejections {
        merged.detail = format!("{}; {}", merged.detail, rejection.detail);
    }
    Some(merged)
}
