//! `alert-ips run`: the daemon, from its first log line to its exit code.

use super::{
    Configured, Exit, block_on, log,
    print::Printer,
    reload::InForce,
    signals::{ReloadSignal, StopSignals},
};
use crate::{
    config::{JournalKind, Loaded},
    crash_point,
    daemon::Daemon,
    dispatcher::Unfinished,
    ops::systemd::ServiceManager,
};

pub(super) fn run(configured: &Configured, printer: &mut Printer) -> Exit {
    let loaded = match configured.load_quietly(printer) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let _log = match log(&loaded.settings, printer) {
        Ok(guard) => guard,
        Err(exit) => return exit,
    };
    if let Err(exit) = arm_crash_point(printer) {
        return exit;
    }
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "the configuration may surprise");
    }
    block_on(daemon(configured, &loaded))
}

/// Arms the crash point that the environment names, if it names one.
fn arm_crash_point(printer: &mut Printer) -> Result<(), Exit> {
    let Some(text) = std::env::var_os(crash_point::VARIABLE) else { return Ok(()) };
    if !crash_point::AVAILABLE {
        tracing::warn!("{} is set, and has no effect: only builds for tests have crash points", crash_point::VARIABLE);
        return Ok(());
    }
    crash_point::arm(&text.to_string_lossy()).map_err(|error| {
        printer.complain(&format!("error: {error}"));
        Exit::Config
    })
}

async fn daemon(configured: &Configured, loaded: &Loaded) -> Exit {
    let settings = &loaded.settings;
    // Before anything else: a signal during the start must not kill what was begun.
    let (mut signals, mut reloads) = match StopSignals::new().and_then(|stop| Ok((stop, ReloadSignal::new()?))) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "signals can't be received");
            return Exit::Internal;
        }
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        input = settings.topics.input.join(", "),
        output = settings.topics.outputs.join(", "),
        delivery = settings.output.delivery.as_str(),
        accounts = settings.accounts.len(),
        "alert-ips starts"
    );
    if settings.journal.kind == JournalKind::Memory {
        tracing::warn!(
            "the journal is in memory: a restart forgets what was spent of the limits, and the service may answer 429 until \
             an hour has passed"
        );
    }
    let mut daemon = match Daemon::start(settings).await {
        Ok(daemon) => daemon,
        Err(error) => {
            tracing::error!(%error, "alert-ips can't start with this configuration");
            return Exit::Config;
        }
    };
    if let Some(systemd) = ServiceManager::from_environment() {
        tokio::spawn(systemd.keep_informed(daemon.watches().clone(), daemon.health().clone()));
    }
    let mut in_force = InForce::new(loaded);
    loop {
        tokio::select! {
            () = reloads.next() => in_force.reload(configured, &daemon),
            signal = signals.next() => {
                tracing::info!(signal, "asked to stop; draining, at most 30 s; a second signal stops at once");
                break;
            }
            owner = daemon.failed() => {
                tracing::error!(owner, "a part ended by itself, which is a defect; what was not committed is redone at the next start");
                return Exit::Internal;
            }
        }
    }
    tokio::select! {
        unfinished = daemon.stop() => report(unfinished),
        signal = signals.next() => tracing::warn!(signal, "stopped at once; what was not committed is redone at the next start"),
    }
    Exit::Done
}

fn report(unfinished: Unfinished) {
    let Unfinished { records, writes, still_in_group, left_open } = unfinished;
    if records > 0 || writes > 0 || still_in_group {
        tracing::warn!(
            records,
            writes,
            still_in_group,
            "stopped before everything was finished; what was not committed is redone at the next start"
        );
    } else if left_open > 0 {
        tracing::info!(
            left_open,
            "drained; the records that were still waiting, and what is settled behind them in their partitions, are read \
             again at the next start"
        );
    } else {
        tracing::info!("drained: every call is finished, every output acknowledged, everything settled committed");
    }
}
