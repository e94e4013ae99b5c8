//! `alert-ips simulate`: the simulated service, for trying things out and for tests from outside.

use std::{fs::OpenOptions, io, net::SocketAddr, path::PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::{Exit, block_on, print::Printer, signals::StopSignals};
use crate::{
    clock::Clock,
    domain::limit::Limit,
    sim::{Latency, Mix, Plan, Settings, Sim, http::Server},
};

#[derive(Args, Debug)]
pub(super) struct SimulateArgs {
    /// Serve sign-in and API on this address; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// A limit to enforce, such as "100 per 1m"; may be given several times
    #[arg(long = "limits", value_name = "LIMIT", default_values = ["100 per 1m", "1500 per 1h"])]
    limits: Vec<Limit>,
    /// Decides, with each alert's id, what is answered
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What is answered: "all-found", "realistic", "stormy", or weights such as "found=80,late=5"
    #[arg(long, default_value = "realistic")]
    mix: Mix,
    /// How long answers take: "20ms", "10ms..8s", "tail 50ms" or "none"
    #[arg(long, default_value = "20ms")]
    latency: Latency,
    /// Append one line of JSON per request
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

pub(super) fn run(args: &SimulateArgs, printer: &mut Printer) -> Exit {
    let mut settings = Settings::new(args.seed);
    settings.limits.clone_from(&args.limits);
    settings.plan = Plan::new(args.seed, args.mix);
    settings.latency = args.latency;
    settings.keep_calls = 0;
    if let Some(path) = &args.log {
        match OpenOptions::new().create(true).append(true).open(path) {
            Ok(file) => settings.log = Some(Box::new(file)),
            Err(error) => {
                printer.complain(&format!("error: --log: {} can't be written: {error}", path.display()));
                return Exit::Usage;
            }
        }
    }
    block_on(async {
        match serve(args.listen, settings, printer).await {
            Ok(()) => Exit::Done,
            Err(error) => {
                printer.complain(&format!("error: --listen: {} can't be served: {error}", args.listen));
                Exit::Usage
            }
        }
    })
}

async fn serve(listen: SocketAddr, settings: Settings, printer: &mut Printer) -> io::Result<()> {
    let mut signals = StopSignals::new()?;
    let sim = Sim::new(settings, Clock::machine());
    let server = Server::bind(sim.clone(), listen).await?;
    let origin = server.origin();
    printer.say(&format!(
        "the simulated service answers on {origin}\n\
         use it with: --set accounts.NAME.api_url={origin} --set accounts.NAME.authority_url={origin}"
    ));
    let stop = CancellationToken::new();
    let serving = server.run(stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return Ok(()),
        _ = signals.next() => stop.cancel(),
    }
    printer.say(&summary(&sim));
    Ok(())
}

fn summary(sim: &Sim) -> String {
    let counts = sim.counts();
    let windows = sim.windows().into_iter().map(|window| {
        let verdict = if window.was_exceeded() { "EXCEEDED" } else { "kept" };
        format!("\n{}: {verdict}, at most {} calls in any window", window.limit, window.worst)
    });
    format!(
        "{} calls, {} sign-ins, {} violations{}",
        counts.calls,
        counts.sign_ins,
        counts.violations,
        windows.collect::<String>()
    )
}
