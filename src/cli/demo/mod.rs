//! `alert-ips demo`: the whole daemon at work, in one process, with nothing installed and nothing configured.
//!
//! The daemon is the real one, as `run` starts it. Around it are an embedded broker, the simulated service over HTTP,
//! someone who writes alerts, and someone who reads what comes out. At the end the demo checks what it claims: what the
//! topics hold against what was written, and the limits against what the service counted.

mod broker;
mod checks;
mod ledger;
mod screen;
mod script;
mod show;
mod stage;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IsTerminal},
    path::Path,
    time::Duration,
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use rdkafka::error::KafkaError;

use self::{
    broker::{Broker, DEAD_LETTERS, GROUP, INPUT, OUTPUT, SHOWN, shown},
    checks::{Check, anomalies, checks},
    script::Scale,
    show::Show,
    stage::{End, Stage},
};
use super::{Exit, block_on, print::Printer};
use crate::{
    config::{Problems, Settings},
    daemon::StartError,
    domain::output::OutputFormat,
};

/// What else `--help` says.
const MORE: &str = "\
Alerts come in, a storm of minor ones among them; related IPs come out, within both limits. These are scaled so that \
the time given shows everything: waiting for permits, high alerts that go first, alerts that are not visible yet (404) \
and are asked about again, a freeze (429), and dead letters. On a terminal it is a live view, elsewhere plain lines.

At the end the demo checks what it claims. Exit code: 0 if all of it is so, 1 if not.";

#[derive(Args, Debug)]
#[command(after_help = MORE)]
pub(super) struct DemoArgs {
    /// Stop after about so many seconds; it ends earlier once everything is answered
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    seconds: u32,
    /// Decides which alerts come and what the service answers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many alerts to write [default: as many as can be answered in the time]
    ///
    /// With more than that, the demo still stops in time, and says how many were left waiting.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=50_000))]
    alerts: Option<u32>,
    /// Write the outputs in this form too, and show one of them at the end
    #[arg(long, value_parser = format_parser())]
    format: Option<OutputFormat>,
}

fn format_parser() -> impl TypedValueParser<Value = OutputFormat> {
    let by_name =
        |name: String| OutputFormat::ALL.into_iter().find(|format| format.as_str() == name).unwrap_or_default();
    PossibleValuesParser::new(OutputFormat::ALL.map(OutputFormat::as_str)).map(by_name)
}

/// Why the demo can't go on.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("the embedded broker failed: {0}")]
    Kafka(#[from] KafkaError),
    #[error("the simulated service can't listen on 127.0.0.1: {0}")]
    Listen(io::Error),
    #[error("the terminal can't be used: {0}; redirect the output, as in `alert-ips demo | cat`, for plain lines")]
    Terminal(#[from] io::Error),
    #[error("signals can't be received: {0}")]
    Signals(io::Error),
    #[error("the demo's own configuration is wrong, which is a defect:\n{0}")]
    Settings(Problems),
    #[error("the daemon can't be started: {0}")]
    Start(#[from] StartError),
    #[error("the daemon's dispatcher ended by itself, which is a defect")]
    Ended,
    #[error("stopped at once, as asked; nothing was checked")]
    AtOnce,
    #[error("a message could not be written to the embedded broker or read from it: {0}")]
    Message(String),
}

pub(super) fn run(args: &DemoArgs, printer: &mut Printer) -> Exit {
    // Started here, for it can't leave this thread; and kept until the clients are gone.
    let broker = match Broker::start() {
        Ok(broker) => broker,
        Err(error) => {
            printer.complain(&format!("error: {}", DemoError::from(error)));
            return Exit::Internal;
        }
    };
    block_on(async {
        match perform(args, &broker.servers(), printer).await {
            Ok(checks) if checks.iter().all(|check| check.ok) => Exit::Done,
            Ok(_) => Exit::No,
            Err(error @ DemoError::AtOnce) => {
                printer.complain(&error.to_string());
                Exit::No
            }
            Err(error) => {
                printer.complain(&format!("error: {error}"));
                Exit::Internal
            }
        }
    })
}

async fn perform(args: &DemoArgs, servers: &str, printer: &mut Printer) -> Result<Vec<Check>, DemoError> {
    let scale = Scale::new(args.seconds, args.alerts);
    let total = Duration::from_secs(args.seconds.into());
    printer.say(&opening(&scale, args));
    let show = Show::open(is_live(), total, printer)?;
    let (stage, daemon) = Stage::set(args.seed, total, scale, servers, args.format, show).await?;
    let (facts, end) = stage.perform(daemon).await?;
    let checks = checks(&facts);
    printer.say(&summary(&checks, end, &anomalies(&facts.audit)));
    if let Some(format) = args.format {
        let record = shown(servers)?.unwrap_or_else(|| "nothing was published".to_owned());
        printer.say(&format!("\nOne record in the form {}, its headers first:\n\n{record}", format.as_str()));
    }
    Ok(checks)
}

/// Whether stdout can be drawn on.
fn is_live() -> bool {
    io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb")
}

fn opening(scale: &Scale, args: &DemoArgs) -> String {
    let [short, long] = scale.limits;
    let words = format!(
        "alert-ips demo: {} alerts within {short} and {long}, on an embedded broker and a simulated service (seed {})",
        scale.alerts, args.seed
    );
    let needs = scale.needs();
    if needs.as_secs() <= args.seconds.into() {
        return words;
    }
    format!(
        "{words}\nat these limits they take about {}; after {} s the demo stops and tells how many still wait",
        humantime::format_duration(Duration::from_secs(needs.as_secs())),
        args.seconds
    )
}

/// What the daemon runs with. `origin`: where the simulated service answers.
fn settings(scale: &Scale, servers: &str, origin: &str, format: Option<OutputFormat>) -> Result<Settings, DemoError> {
    let limits = scale.limits.map(|limit| limit.to_string()).join(", ");
    let reask_after = scale.reask_after.map(|wait| format!("{}s", wait.as_secs())).join(", ");
    let max_in_flight = scale.max_in_flight.to_string();
    let overrides = [
        ("kafka.bootstrap_servers", servers),
        ("kafka.group_id", GROUP),
        ("topics.input", INPUT),
        ("topics.output", OUTPUT),
        ("topics.dead_letters", DEAD_LETTERS),
        ("instance.name", "demo"),
        // It has no life before this one and no siblings.
        ("journal.kind", "memory"),
        ("accounts.demo.tenant_id", crate::sim::world::TENANT),
        ("accounts.demo.client_id", "66666666-7777-8888-9999-000000000000"),
        ("accounts.demo.api_url", origin),
        ("accounts.demo.authority_url", origin),
        ("accounts.demo.limits", &limits),
        ("accounts.demo.max_in_flight", &max_in_flight),
        // Of so small limits 1 % is too little to hold a few high alerts at a time.
        ("priority.reserve", "0.03"),
        // A minute of the real limits is about a third of a second here.
        ("priority.patience.medium", "2s"),
        ("priority.patience.unspecified", "2s"),
        ("priority.patience.low", "10s"),
        ("priority.patience.informational", "20s"),
        ("not_found.reask_after", &reask_after),
        ("retry.first", "300ms"),
        ("retry.longest", "2s"),
        ("admin.listen", ""),
    ];
    let shown = format.map(|format| [("outputs.shown.topic", SHOWN), ("outputs.shown.format", format.as_str())]);
    let overrides = overrides.into_iter().chain(shown.into_iter().flatten());
    let overrides: Vec<_> = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let secret = ("ALERT_IPS_ACCOUNTS__DEMO__CLIENT_SECRET".to_owned(), "demo".to_owned());
    let loaded = Settings::load(Some(Path::new("/dev/null")), &overrides, [secret], |_, _| None);
    loaded.map(|loaded| loaded.settings).map_err(DemoError::Settings)
}

fn summary(checks: &[Check], end: End, anomalies: &[String]) -> String {
    let mut lines = vec![String::new(), end.words().to_owned()];
    lines.extend(checks.iter().map(Check::line));
    lines.extend(anomalies.iter().map(|anomaly| format!("        {anomaly}")));
    let failed = checks.iter().filter(|check| !check.ok).count();
    lines.push(match failed {
        0 => format!("all {} checks ok", checks.len()),
        _ => format!("{failed} of {} checks FAILED", checks.len()),
    });
    lines.join("\n")
}
