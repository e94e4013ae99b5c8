//! `alert-ips lookup`: the daemon's own account, without Kafka, for a few ids.

use std::{io::Read, sync::Arc, time::Duration};

use clap::Args;
use serde::Serialize;
use tokio::sync::watch;

use super::{Configured, Exit, block_on, log, print::Printer};
use crate::{
    clock::Clock,
    config::{AccountSettings, JournalKind, LogLevel, Settings},
    daemon::{build_account, http_transport},
    defender::{
        account::{AccountHandle, Reporting},
        journal::MemoryJournal,
    },
    domain::{
        alert::{Alert, AlertId, Severity},
        outcome::{Outcome, Rejection},
        phase::Phase,
    },
    observe::{health::Health, metrics::Metrics, status::AccountStatus},
};

/// How often the line of progress is renewed.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Debug)]
pub(super) struct LookupArgs {
    #[command(flatten)]
    configured: Configured,
    /// The alerts' ids; `-` reads them from stdin, one a line
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// The account to ask with; needed where several are configured
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

/// What is printed about one id.
#[derive(Serialize)]
struct Line {
    alert_id: String,
    status: &'static str,
    ips: Vec<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retrieved_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn run(args: &LookupArgs, printer: &mut Printer) -> Exit {
    let ids = match ids(&args.ids) {
        Ok(ids) => ids,
        Err(words) => {
            printer.complain(&format!("error: {words}"));
            return Exit::Usage;
        }
    };
    let loaded = match args.configured.load(printer) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let mut settings = loaded.settings;
    // One question, one answer: who waits at a prompt does not want to wait out the re-asks.
    settings.not_found.reask_after.clear();
    // It needs no Kafka.
    settings.journal.kind = JournalKind::Memory;
    if settings.log.level == LogLevel::Info {
        // The answers say what went well.
        settings.log.level = LogLevel::Warn;
    }
    let _log = match log(&settings, printer) {
        Ok(guard) => guard,
        Err(exit) => return exit,
    };
    match account(&settings, args.account.as_deref()) {
        Ok(account) => block_on(look_up(&settings, account, ids, args.json, printer)),
        Err(words) => {
            printer.complain(&format!("error: {words}"));
            Exit::Usage
        }
    }
}

fn ids(given: &[String]) -> Result<Vec<AlertId>, String> {
    let mut texts = Vec::new();
    for text in given {
        if text == "-" {
            let mut lines = String::new();
            std::io::stdin().read_to_string(&mut lines).map_err(|error| format!("stdin can't be read: {error}"))?;
            texts.extend(lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
        } else {
            texts.push(text.clone());
        }
    }
    let parse = |text: &String| AlertId::parse(text).map_err(|error| format!("{}: {error}", text.escape_default()));
    if texts.is_empty() {
        return Err("stdin names no alert id; write one a line".to_owned());
    }
    texts.iter().map(parse).collect()
}

pub(super) fn account<'a>(settings: &'a Settings, name: Option<&str>) -> Result<&'a AccountSettings, String> {
    let names = || settings.accounts.iter().map(|account| &*account.name).collect::<Vec<_>>().join(", ");
    match (name, settings.accounts.as_slice()) {
        (None, [only]) => Ok(only),
        (None, _) => Err(format!("several accounts are configured; choose one with --account: {}", names())),
        (Some(name), accounts) => accounts.iter().find(|account| &*account.name == name).ok_or_else(|| {
            format!("--account: there is no account {}; configured: {}", name.escape_default(), names())
        }),
    }
}

async fn look_up(
    settings: &Settings,
    account: &AccountSettings,
    ids: Vec<AlertId>,
    json: bool,
    printer: &mut Printer,
) -> Exit {
    let clock = Clock::machine();
    let transport = match http_transport(&settings.http, account.max_in_flight.get() as usize) {
        Ok(transport) => Arc::new(transport),
        Err(error) => {
            printer.complain(&format!("error: {error}"));
            return Exit::Config;
        }
    };
    let health = Health::new(clock.clone());
    let reporting = Reporting {
        metrics: Metrics::new(clock.wall(), []).account(&account.name),
        health: health.part(&format!("account {}", account.name)),
        pulse: health.pulse(&format!("account {}", account.name)),
    };
    let (task, handle) =
        build_account(settings, account, MemoryJournal::new(clock.clone()), transport, &clock, reporting);
    let (_phase, phases) = watch::channel(Phase::Running);
    tokio::spawn(task.run(phases));
    let lines = answers(&handle, ids, &clock, printer).await;
    printer.progress("");
    if json {
        lines.iter().filter_map(|line| serde_json::to_string(line).ok()).for_each(|line| printer.say(&line));
    } else {
        printer.say(&table(&lines));
    }
    if lines.iter().all(|line| line.error.is_none()) { Exit::Done } else { Exit::No }
}

/// The answers in the order of the ids; shows what it waits for meanwhile. Gives up where only a change from outside
/// would help.
async fn answers(handle: &AccountHandle, ids: Vec<AlertId>, clock: &Clock, printer: &mut Printer) -> Vec<Line> {
    let mut pending = Vec::new();
    for id in ids {
        let alert = Alert { id: id.clone(), tenant: None, severity: Severity::High, updated: None, created: None };
        pending.push((id, handle.ask(alert, clock.wall()).await));
    }
    let status = handle.status();
    let all = pending.len();
    let mut lines = Vec::new();
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    for (id, question) in pending {
        let answer = async { question.ok()?.await.ok() };
        tokio::pin!(answer);
        let result = loop {
            let mut watched = status.clone();
            tokio::select! {
                biased;
                result = &mut answer => break result.ok_or_else(|| "not answered".to_owned()),
                why = lasting_trouble(&mut watched) => break Err(format!("not answered: {why}")),
                _ = tick.tick() => printer.progress(&waiting_words(lines.len(), all, &status.borrow())),
            }
        };
        lines.push(line(&id, result));
    }
    lines
}

/// Why no call will be made until someone changes something; pending as long as that is not so.
async fn lasting_trouble(status: &mut watch::Receiver<AccountStatus>) -> String {
    let is_lasting = |status: &AccountStatus| status.paused.as_ref().is_some_and(|pause| pause.lasting);
    match status.wait_for(is_lasting).await {
        Ok(status) => status.paused.as_ref().map(|pause| pause.why.clone()).unwrap_or_default(),
        // The account has ended, and its answers with it.
        Err(_) => std::future::pending().await,
    }
}

fn waiting_words(answered: usize, all: usize, status: &AccountStatus) -> String {
    let why = match (&status.paused, status.next_slot_in) {
        (Some(pause), _) => pause.why.clone(),
        (None, Some(slot)) => format!(
            "waiting for a permit, next slot in {}",
            humantime::format_duration(Duration::from_secs(slot.as_secs() + 1))
        ),
        (None, None) => "asking".to_owned(),
    };
    format!("{answered} of {all} answered; {why}")
}

fn line(id: &AlertId, result: Result<Result<Outcome, Rejection>, String>) -> Line {
    let failed = |error: String| Line {
        alert_id: id.to_string(),
        status: "error",
        ips: Vec::new(),
        retrieved_at: None,
        error: Some(error),
    };
    match result {
        Ok(Ok(outcome)) => Line {
            alert_id: id.to_string(),
            status: outcome.status.as_str(),
            ips: outcome.ips.as_slice().to_vec(),
            retrieved_at: Some(format!("{:.3}", outcome.retrieved_at)),
            error: None,
        },
        Ok(Err(rejection)) => failed(rejection.detail),
        Err(why) => failed(why),
    }
}

fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.alert_id.len()).max().unwrap_or(0).max("ALERT".len());
    let row =
        |alert: &str, status: &str, last: &str| format!("{alert:width$}  {status:9}  {last}").trim_end().to_owned();
    let head = row("ALERT", "STATUS", "RELATED IPS");
    let rows = lines.iter().map(|line| {
        let ips: Vec<_> = line.ips.iter().map(ToString::to_string).collect();
        row(&line.alert_id, line.status, line.error.as_deref().unwrap_or(&ips.join(", ")))
    });
    std::iter::once(head).chain(rows).collect::<Vec<_>>().join("\n")
}
