//! The command line: what can be asked of the program, and with which exit code it answers.

mod check;
mod config;
mod demo;
mod journal;
mod lookup;
mod print;
mod reload;
mod replay;
mod run;
mod signals;
mod simulate;
mod since;
mod topics;

use std::{ffi::OsString, future::Future, path::PathBuf};

use clap::{Args, Parser, Subcommand, error::ErrorKind};

use self::print::Printer;
use crate::{
    config::{Loaded, LogFormat, Settings},
    kafka::client::property_problem,
    ops::telemetry,
};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or asked to stop.
    Done,
    /// The command ran, and its answer is no: a check of the demo failed, an alert was not answered.
    No,
    /// The command line is wrong (`EX_USAGE`).
    Usage,
    /// A defect of the program (`EX_SOFTWARE`).
    Internal,
    /// The configuration is wrong, or does not work (`EX_CONFIG`).
    Config,
}

impl Exit {
    /// The process's exit code. 64, 70 and 78 are those of `sysexits.h`.
    pub const fn code(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Config => 78,
        }
    }
}

/// Adds the related IP addresses to Microsoft Defender for Endpoint alerts, Kafka to Kafka, within the API's call limits.
#[derive(Debug, Parser)]
#[command(name = "alert-ips", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole daemon at work, with nothing installed and nothing configured
    Demo(demo::DemoArgs),
    /// Run the daemon: alerts from Kafka in, related IPs out
    Run(Configured),
    /// Validate the configuration, and with --online everything it names
    Check(check::CheckArgs),
    /// Ask for the related IPs of alerts, once, without Kafka
    Lookup(lookup::LookupArgs),
    /// Serve a simulated Defender API and sign-in that enforces its limits
    Simulate(simulate::SimulateArgs),
    /// Show, and with --create create, the Kafka topics with fitting settings
    Topics(topics::TopicsArgs),
    /// Print who spent which call on which alert, how full the limits were, and what is free
    Journal(journal::JournalArgs),
    /// Show the dead letters, and send them back once their cause is mended
    Replay(replay::ReplayArgs),
    /// Print the effective configuration and where each value comes from; secrets are left out
    Config(config::ConfigArgs),
}

/// Where the configuration comes from.
#[derive(Args, Clone, Debug)]
struct Configured {
    /// The configuration file [default: /etc/alert-ips/alert-ips.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Set one key, over file and environment; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = assignment)]
    overrides: Vec<(String, String)>,
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as section.key=value")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Configured {
    /// The settings for a command that signs in nowhere, or the exit code after all problems were printed.
    fn load_without_secrets(&self, printer: &mut Printer) -> Result<Loaded, Exit> {
        let (path, environment) = (self.config.as_deref(), environment());
        Settings::load(path, &self.overrides, environment, property_problem).map_err(|problems| {
            printer.complain(&problems.to_string());
            Exit::Config
        })
    }

    /// As [`load_without_secrets`](Self::load_without_secrets), with secrets that can be read.
    fn load_quietly(&self, printer: &mut Printer) -> Result<Loaded, Exit> {
        let loaded = self.load_without_secrets(printer)?;
        match &loaded.unusable_secrets {
            None => Ok(loaded),
            Some(problems) => {
                printer.complain(&problems.to_string());
                Err(Exit::Config)
            }
        }
    }

    /// As [`load_quietly`](Self::load_quietly), with the warnings printed.
    fn load(&self, printer: &mut Printer) -> Result<Loaded, Exit> {
        let loaded = self.load_quietly(printer)?;
        for warning in &loaded.warnings {
            printer.complain(&format!("warning: {warning}"));
        }
        Ok(loaded)
    }
}

/// The environment's variables that are text; no other can be a setting.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Runs the command line `args`, the program's name first.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let mut printer = Printer::standard();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // A closed stdout or stderr leaves nobody to tell.
            let _ = error.print();
            return if help { Exit::Done } else { Exit::Usage };
        }
    };
    let exit = match cli.command {
        Command::Demo(args) => demo::run(&args, &mut printer),
        Command::Run(configured) => run::run(&configured, &mut printer),
        Command::Check(args) => check::run(&args, &mut printer),
        Command::Lookup(args) => lookup::run(&args, &mut printer),
        Command::Simulate(args) => simulate::run(&args, &mut printer),
        Command::Topics(args) => topics::run(&args, &mut printer),
        Command::Journal(args) => journal::run(&args, &mut printer),
        Command::Replay(args) => replay::run(&args, &mut printer),
        Command::Config(args) => config::run(&args, &mut printer),
    };
    printer.conclude(exit)
}

/// Runs `work` on a runtime with two workers: the work is waiting, and what must be fast is one loop each.
fn block_on(work: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => {
            let exit = runtime.block_on(work);
            // A blocking task that hangs (a broker that is away) must not hold up the end.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            Printer::standard().complain(&format!("error: the runtime can't be started: {error}"));
            Exit::Internal
        }
    }
}

/// Logs to stderr as the settings say, for as long as the guard lives.
fn log(settings: &Settings, printer: &mut Printer) -> Result<telemetry::LogGuard, Exit> {
    let format = match settings.log.format {
        LogFormat::Auto => telemetry::LogFormat::Auto,
        LogFormat::Text => telemetry::LogFormat::Text,
        LogFormat::Json => telemetry::LogFormat::Json,
    };
    telemetry::init(settings.log.level.as_str(), format).map_err(|error| {
        printer.complain(&format!("error: {error}"));
        Exit::Config
    })
}
