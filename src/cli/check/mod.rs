//! `alert-ips check`: whether the configuration is right and, with `--online`, whether what it names works.

mod accounts;
mod brokers;
mod message;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use clap::Args;

use super::{Configured, Exit, block_on, print::Printer};
use crate::{
    clock::Clock,
    config::{self, AccountSettings, Compression, DEFAULT_PATH, Delivery, JournalKind, Settings},
    daemon,
    daemon::http_transport,
    defender::transport::HttpTransport,
    observe::health::Health,
};

/// How long one answer is waited for.
const WITHIN: Duration = Duration::from_secs(15);

#[derive(Args, Debug)]
#[command(
    after_help = "No record is written, and the consumer group is not joined: whether the brokers allow that shows when \
                        the daemon runs, but for the journal, whose rights are tried (on a broker that is not Apache Kafka, \
                        a message without entries may stay there). Exits with 0 if nothing is wrong, else with 78; with \
                        --message with 1 where something of the message can't be used."
)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    configured: Configured,
    /// Also try brokers, topics, sign-in and API; costs one call of each account's limits, which a running daemon
    /// doesn't know of
    #[arg(long)]
    online: bool,
    /// Show what is read from a message, such as one saved from the input topic (- for stdin), and try nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "online")]
    message: Option<PathBuf>,
}

/// What was found about one thing that was tried.
struct Finding {
    mark: Mark,
    /// What was tried.
    about: String,
    /// How it went and, if not well, what to do.
    words: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Ok,
    /// It works, but someone should know of something.
    Warning,
    Failed,
    /// It can't be tried because of something else that failed.
    Skipped,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        })
    }
}

impl Finding {
    fn new(mark: Mark, about: impl Into<String>, words: impl Into<String>) -> Self {
        Self { mark, about: about.into(), words: words.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:7}  {}: {}", self.mark, self.about, self.words)
    }
}

pub(super) fn run(args: &CheckArgs, printer: &mut Printer) -> Exit {
    if let Some(file) = &args.message {
        return match args.configured.load_without_secrets(printer) {
            Ok(loaded) => message::tell(file, &loaded.settings, Clock::machine().wall(), printer),
            Err(exit) => exit,
        };
    }
    let settings = match args.configured.load(printer) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    let transport = match http_transport(&settings.http, settings.accounts.len()) {
        Ok(transport) => Arc::new(transport),
        Err(error) => {
            printer.complain(&format!("error: {error}"));
            return Exit::Config;
        }
    };
    let path = args.configured.config.as_deref().unwrap_or(DEFAULT_PATH.as_ref());
    printer.say(&format!("ok: {}: the configuration is valid\n{}", path.display(), summary(&settings)));
    if args.online {
        block_on(online(settings, transport, printer))
    } else {
        printer.say("nothing outside of it was tried; `alert-ips check --online` does that");
        Exit::Done
    }
}

fn summary(settings: &Settings) -> String {
    let topics = &settings.topics;
    let mut lines = vec![
        format!("kafka: {}, group {}", settings.kafka.bootstrap_servers, settings.kafka.group_id),
        format!(
            "topics: {} -> {}, dead letters {}",
            topics.input.join(", "),
            topics.outputs.join(", "),
            topics.dead_letters
        ),
        match settings.output.delivery {
            Delivery::AtLeastOnce => "delivery: at least once".to_owned(),
            Delivery::ExactlyOnce => {
                format!("delivery: exactly once, in transactions of {}", daemon::transactional_id(settings))
            }
        },
        match settings.output.compression {
            Compression::None => "compression: none, which every broker takes, Azure Event Hubs too".to_owned(),
            other => format!("compression: {}", other.as_str()),
        },
        match settings.journal.kind {
            JournalKind::Kafka => format!("journal: topic {}", topics.journal),
            JournalKind::Memory => {
                "journal: in memory, so the limits hold for one instance until it is restarted".to_owned()
            }
        },
    ];
    lines.extend(settings.accounts.iter().map(account_summary));
    lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

fn account_summary(account: &AccountSettings) -> String {
    let limits: Vec<_> = account.limits.iter().map(ToString::to_string).collect();
    let share = if account.share < 1.0 { format!(" (share {})", account.share) } else { String::new() };
    format!(
        "account {}: tenant {}, {}{share}, {} in flight",
        account.name,
        account.tenant_id,
        limits.join(" and "),
        account.max_in_flight
    )
}

/// Whether the schema registry answers, if there is one.
async fn try_registry(settings: &Settings) -> Vec<Finding> {
    let Some(config::SchemaRegistry { url, .. }) = &settings.input.registry else { return Vec::new() };
    let about = format!("schema registry {url}");
    let registry = match daemon::registry(settings, &Health::new(Clock::machine())) {
        Ok(Some(registry)) => registry,
        Ok(None) => return Vec::new(),
        Err(error) => return vec![Finding::new(Mark::Failed, about, error.to_string())],
    };
    let words = match tokio::time::timeout(WITHIN, registry.probe()).await {
        Ok(Ok(())) => return vec![Finding::new(Mark::Ok, about, "it answers")],
        Ok(Err(why)) => why,
        Err(_) => format!("no answer within {} s", WITHIN.as_secs()),
    };
    let remedy = "check that it runs, and input.schema_registry";
    vec![Finding::new(Mark::Failed, about, format!("it can't be asked: {words}; {remedy}"))]
}

/// Tries everything at the same time, and tells in a fixed order.
async fn online(settings: Settings, transport: Arc<HttpTransport>, printer: &mut Printer) -> Exit {
    printer.say(&format!(
        "trying what it names, at most {} s for each answer; one call of each account's limits is spent",
        WITHIN.as_secs()
    ));
    let accounts = settings.accounts.clone().into_iter();
    let accounts: Vec<_> =
        accounts.map(|account| tokio::spawn(accounts::try_account(account, transport.clone()))).collect();
    let mut failed = 0;
    let mut tell = |findings: Vec<Finding>| {
        for finding in findings {
            failed += usize::from(finding.mark == Mark::Failed);
            printer.say(&finding.to_string());
        }
    };
    tell(brokers::try_kafka(&settings).await);
    tell(try_registry(&settings).await);
    for account in accounts {
        match account.await {
            Ok(findings) => tell(findings),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    match failed {
        0 => printer.say("all of it works"),
        1 => printer.say("1 thing does not work"),
        _ => printer.say(&format!("{failed} things do not work")),
    }
    if failed == 0 { Exit::Done } else { Exit::Config }
}
