//! `alert-ips config`

use clap::Args;

use super::{Configured, Exit, print::Printer};
use crate::config::{render_effective, sample};

#[derive(Args, Debug)]
pub(super) struct ConfigArgs {
    #[command(flatten)]
    configured: Configured,
    /// Print a file with every key, its default and a comment instead
    #[arg(long, conflicts_with_all = ["config", "overrides"])]
    sample: bool,
}

pub(super) fn run(args: &ConfigArgs, printer: &mut Printer) -> Exit {
    if args.sample {
        printer.say(&sample());
        return Exit::Done;
    }
    match args.configured.load_without_secrets(printer) {
        Ok(loaded) => {
            printer.say(&render_effective(&loaded));
            Exit::Done
        }
        Err(exit) => exit,
    }
}
