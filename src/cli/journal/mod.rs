//! `alert-ips journal`: what the journal in Kafka says of the calls that were made, and of what is free now.

mod history;
mod init;
mod json;
#[cfg(test)]
mod tests;
mod text;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tokio::sync::mpsc;

use self::{
    history::{Failure, History},
    text::Columns,
};
use super::{
    Configured, Exit, block_on,
    print::Printer,
    signals::StopSignals,
    since::{Since, since},
    topics,
};
use crate::{
    clock::Clock,
    config::{AccountSettings, Settings},
    daemon::{kafka_config, terms},
    domain::{audit::News, limit::Limit, time::JournalTime},
    kafka::{
        client::KafkaConfig,
        journal::LogEvent,
        topics::{ConfiguredTopic, TopicRole, TopicState, describe},
    },
};

/// Without --since the period is at least so long.
const SHORTEST_PERIOD: Duration = Duration::from_hours(1);

/// How often it is looked for calls that are given up.
const GIVE_UP_EVERY: Duration = Duration::from_secs(1);

/// By how much this host's clock may be ahead of the broker's before a call is called given up too early.
const CLOCKS_APART: Duration = Duration::from_secs(30);

/// Calls that are told before what is older than the period is forgotten.
const FORGET_EVERY: usize = 10_000;

const AFTER_HELP: &str = "\
Reads the journal, writes nothing to it, and needs neither the daemon nor the accounts' secrets. A call is a claim that was \
granted. Times are those of the journal: the broker's clock, where its topic has LogAppendTime.

Exits with 0 when the period was read (with --follow: on SIGINT or SIGTERM), with 1 if the journal does not exist or no \
broker answers, with 64 for a wrong command line, and with 78 if the configuration or the rights don't allow it.";

/// The names are a contract with whoever reads --json.
const AFTER_LONG_HELP: &str = "\
Reads the journal, writes nothing to it, and needs neither the daemon nor the accounts' secrets. A call is a claim that was \
granted. Times are those of the journal: the broker's clock, where its topic has LogAppendTime.

Why a call was made, by what was read of its alert before it (`why` of --json):
  first             nothing was asked about the alert before
  after_404         the service did not know the alert yet
  after_failure     the call before failed, or was not answered in a way that can be used
  after_unfinished  the call before gave a 2xx that was not the end: a page
  repeat            it was answered before, for good, but too long ago, or that was forgotten
  unknown           its claim lies before what was read

What it led to (`result` of --json):
  found, empty, not_found  the answer, as in the output records
  not_yet                  404; it is asked again later
  unfinished               2xx, and that was not the end
  failed                   any other HTTP status
  unknown                  no answer came, or none that can be used; the service may have counted it
  given_up                 its instance was killed or cut off; the service may have counted it
  open                     it may be on the wire
  never                    the service was not reached, so it has not counted it
  unused                   the permit was given back or has expired

The fullest window of a limit's length counts every call that the service can have counted in it, whenever between its \
claim's entry and its answer's (or, without an answer, until it was given up) that was. So no window can have held more; by \
the service's own count it is usually less.

--json prints one object a line. All fields are always there, null where unknown:
  kind \"call\"     account, claim, claimed_at, answered_at, took_ms, instance, alert_id,
                  severity, why, result, reached, http_status, divergent
  kind \"freeze\"   account, from, until, instance, why, lifts (it ended those that held)
  kind \"summary\"  account, since, until, read_from, calls, why, results, failures,
                  instances, refused_claims, divergent_calls, unruled_claims, checkpoints,
                  carried_checkpoints, copies, unreadable_messages, newest_version,
                  limits, in_flight, frozen_until, next_slot, terms
A call on a claim that was refused is `divergent`: whoever made it rules otherwise, as another version may. With --follow a \
call that was given_up is printed again if its answer comes after all.

Exits with 0 when the period was read (with --follow: on SIGINT or SIGTERM), with 1 if the journal does not exist or no \
broker answers, with 64 for a wrong command line, and with 78 if the configuration or the rights don't allow it.";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP, after_long_help = AFTER_LONG_HELP, args_conflicts_with_subcommands = true)]
#[command(disable_help_subcommand = true)]
pub(super) struct JournalArgs {
    #[command(flatten)]
    configured: Configured,
    #[command(subcommand)]
    action: Option<Action>,
    /// Where the period begins: so long ago (24h), or at a time (2026-11-24T00:00:00Z) [default: 1h ago, or the longest
    /// limit's period]
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Only this account [default: all]
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print one JSON object a line; `--help` says which
    #[arg(long)]
    json: bool,
    /// Go on printing: each call when it ends, each freeze when it begins
    #[arg(long, short)]
    follow: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Vouch that nothing was spent, where an empty journal counts as a spent one
    Init(init::InitArgs),
}

pub(super) fn run(args: &JournalArgs, printer: &mut Printer) -> Exit {
    if let Some(Action::Init(init)) = &args.action {
        return init::run(init, printer);
    }
    let settings = match args.configured.load_without_secrets(printer) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    let chosen = match chosen(&settings, args.account.as_deref()) {
        Ok(accounts) => accounts,
        Err(words) => {
            printer.complain(&format!("error: {words}"));
            return Exit::Usage;
        }
    };
    let clock = Clock::machine();
    let Some(since) = begin(args.since, clock.wall(), &chosen) else {
        printer.complain("error: --since: that is no time in the past");
        return Exit::Usage;
    };
    block_on(async {
        let show = Show { settings: &settings, accounts: chosen, since, clock, json: args.json, follow: args.follow };
        show.run(printer).await.unwrap_or_else(|failure| failure.tell(printer))
    })
}

/// The account of this name, or all of them.
fn chosen<'a>(settings: &'a Settings, name: Option<&str>) -> Result<Vec<&'a AccountSettings>, String> {
    let Some(name) = name else { return Ok(settings.accounts.iter().collect()) };
    let account = settings.accounts.iter().find(|account| &*account.name == name);
    account.map(|account| vec![account]).ok_or_else(|| {
        let names: Vec<_> = settings.accounts.iter().map(|account| &*account.name).collect();
        format!("--account: there is no account {}; configured: {}", name.escape_default(), names.join(", "))
    })
}

/// Where the period begins; `None` where that is not in the past.
fn begin(since: Option<Since>, now: Timestamp, accounts: &[&AccountSettings]) -> Option<Timestamp> {
    let longest = accounts.iter().flat_map(|account| &account.limits).map(|limit| limit.per).max();
    let begin = since.unwrap_or(Since::Ago(longest.unwrap_or_default().max(SHORTEST_PERIOD))).from(now);
    (Timestamp::UNIX_EPOCH..=now).contains(&begin).then_some(begin)
}

/// The journal's clock counts from 1970.
fn journal_time(time: Timestamp) -> JournalTime {
    let nanos = u64::try_from(time.as_nanosecond()).unwrap_or_default();
    JournalTime::from_origin(Duration::from_nanos(nanos))
}

/// Whether there is a journal to read; what is wrong with its settings is told.
async fn look(settings: &Settings, config: &KafkaConfig, printer: &mut Printer) -> Result<(), Failure> {
    let name = &settings.topics.journal;
    let Some(topic) = topics::configured_topics(settings).into_iter().find(is_journal) else {
        let words = "journal.kind is \"memory\": each instance keeps its own, so there is none to read";
        return Err(Failure { exit: Exit::Config, words: words.to_owned() });
    };
    let described = describe(config, &[topic]).await;
    let reports = described.map_err(|error| Failure { exit: topics::exit_of(&error), words: error.to_string() })?;
    for report in reports {
        match report.state {
            TopicState::Missing => {
                let words = format!("the journal {name} does not exist; create it with `alert-ips topics --create`");
                return Err(Failure { exit: Exit::No, words });
            }
            TopicState::Refused(words) => return Err(Failure { exit: Exit::Config, words }),
            TopicState::Present(facts) => facts
                .refusals
                .iter()
                .chain(&facts.warnings)
                .for_each(|words| printer.complain(&format!("warning: {name}: {words}"))),
        }
    }
    Ok(())
}

fn is_journal(topic: &ConfiguredTopic) -> bool {
    matches!(topic.role, TopicRole::Journal(_))
}

/// The command with everything it needs.
struct Show<'a> {
    settings: &'a Settings,
    accounts: Vec<&'a AccountSettings>,
    since: Timestamp,
    clock: Clock,
    json: bool,
    follow: bool,
}

/// One account, as it is followed.
struct Followed<'a> {
    account: &'a AccountSettings,
    history: History,
    columns: Columns,
    /// Calls told since what is old was forgotten.
    told: usize,
}

impl<'a> Show<'a> {
    async fn run(self, printer: &mut Printer) -> Result<Exit, Failure> {
        // From here on a signal does not end the process by itself.
        let signals =
            if self.follow { Some(StopSignals::new().map_err(|error| Failure::signals(&error))?) } else { None };
        let config = kafka_config(self.settings);
        let Some(mut signals) = signals else {
            self.history(&config, printer).await?;
            return Ok(Exit::Done);
        };
        tokio::select! {
            result = async {
                let followed = self.history(&config, printer).await?;
                self.follow(followed, printer).await
            } => result.map(|()| Exit::Done),
            _ = signals.next() => Ok(Exit::Done),
        }
    }

    /// Reads and prints the period of each account.
    async fn history(&self, config: &KafkaConfig, printer: &mut Printer) -> Result<Vec<Followed<'a>>, Failure> {
        look(self.settings, config, printer).await?;
        let mut followed = Vec::new();
        for account in &self.accounts {
            let memory = terms(self.settings, account).memory();
            let ago = self.clock.wall().duration_since(self.since).unsigned_abs();
            let mut history = History::open(config, self.settings, account, ago + memory)?;
            history.read(journal_time(self.since), printer).await?;
            let columns = self.print(account, &mut history, printer);
            followed.push(Followed { account, history, columns, told: 0 });
        }
        Ok(followed)
    }

    fn print(&self, account: &AccountSettings, history: &mut History, printer: &mut Printer) -> Columns {
        let now = journal_time(self.clock.wall());
        let audit = &mut history.audit;
        // The clocks are not the same: what is on the wire is not called given up.
        audit.give_up(earlier(now, CLOCKS_APART));
        audit.take_news();
        let columns = Columns::fitting(audit);
        let summary = audit.summary(now, &limits(account));
        if self.json {
            json::history(&account.name, audit).for_each(|line| printer.say(&line));
            printer.say(&json::summary(&account.name, &summary, &history.unreadable));
        } else {
            printer.say(&text::history(&account.name, audit, columns, &summary, &history.unreadable));
        }
        columns
    }

    /// Prints what happens from now on, until something breaks or nobody reads it any more.
    async fn follow(&self, mut followed: Vec<Followed<'a>>, printer: &mut Printer) -> Result<(), Failure> {
        let mut events = merged(&mut followed);
        let mut tick = tokio::time::interval(GIVE_UP_EVERY);
        while !printer.reader_is_gone() {
            tokio::select! {
                Some((index, event)) = events.recv() => {
                    let followed = &mut followed[index];
                    followed.history.take(event, printer)?;
                    self.tell(followed, printer);
                }
                _ = tick.tick() => {
                    let now = earlier(journal_time(self.clock.wall()), CLOCKS_APART);
                    for followed in &mut followed {
                        followed.history.audit.give_up(now);
                        self.tell(followed, printer);
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&self, followed: &mut Followed<'_>, printer: &mut Printer) {
        let (name, audit) = (&followed.account.name, &mut followed.history.audit);
        let label = (self.accounts.len() > 1).then_some(&**name);
        for news in audit.take_news() {
            let line = match (&news, self.json) {
                (News::Ended(id), json) => {
                    let Some(call) = audit.call(*id) else { continue };
                    if json { json::call(name, call) } else { text::call(label, call, followed.columns) }
                }
                (News::Paused(pause), true) => json::freeze(name, pause),
                (News::Paused(pause), false) => text::pause(label, pause, followed.columns),
            };
            printer.say(&line);
            followed.told += 1;
        }
        if followed.told >= FORGET_EVERY {
            followed.told = 0;
            audit.forget_before(earlier(journal_time(self.clock.wall()), SHORTEST_PERIOD));
        }
    }
}

/// The events of all accounts, each with whose it is.
fn merged(followed: &mut [Followed<'_>]) -> mpsc::Receiver<(usize, LogEvent)> {
    let (sender, receiver) = mpsc::channel(1);
    for (index, followed) in followed.iter_mut().enumerate() {
        let (mut events, sender) = (followed.history.take_events(), sender.clone());
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if sender.send((index, event)).await.is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// The limits that the account may use, as configured.
fn limits(account: &AccountSettings) -> Vec<Limit> {
    let scaled = |limit: &Limit| Some(Limit { calls: limit.scaled(account.share).try_into().ok()?, ..*limit });
    account.limits.iter().filter_map(scaled).collect()
}

fn earlier(time: JournalTime, by: Duration) -> JournalTime {
    JournalTime::from_origin(time.since_origin().saturating_sub(by))
}
