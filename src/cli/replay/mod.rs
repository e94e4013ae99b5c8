//! `alert-ips replay`: what is in the dead letters, and its way back.

mod list;
mod send;
mod show;

use clap::Args;
use jiff::Timestamp;

use self::send::Sending;
use super::{
    Configured, Exit, block_on,
    print::Printer,
    since::{Since, since},
    topics,
};
use crate::{
    clock::Clock,
    config::Settings,
    domain::{dead_letter::DeadLetter, outcome::Reason, record::Receipt, replay::Choice},
    kafka::{
        client::KafkaConfig,
        replay::{DeadLetters, Read},
        topics::ClusterError,
    },
    ops::escape,
};

const AFTER_HELP: &str = "\
Without --all, --reason or --since it shows what is there, and sends nothing.

A record goes back to the topic that it came from, as it was, with the header alert-ips-attempt beside its own. The running \
daemon decides it like any other, except that it is asked about only when nobody else wants calls. At most 100 are on their \
way at once. A message with several alerts goes back whole: those of its alerts that were published are published again.

What was sent back is noted in Kafka, as offsets of the group GROUP.replay: it is not sent again, unless with --again. A \
record that is rejected once more is a dead letter of its own; this run leaves it alone, and without --again no record is sent \
back more than --attempts times.

Exits with 0 if what was chosen was sent back and decided, with 1 if not, if nothing of it can be sent back, or if no broker answers, with 64 for a wrong \
command line, and with 78 if the configuration or the rights don't allow it.";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    configured: Configured,
    /// Show what is there: by reason and source, how many, since when
    #[arg(long, conflicts_with_all = ["show", "all", "limit", "dry_run"])]
    list: bool,
    /// Show one whole, by its place in the dead letters: partition and offset
    #[arg(long, value_name = "PARTITION/OFFSET", value_parser = place)]
    #[arg(conflicts_with_all = ["all", "reason", "since", "limit", "dry_run"])]
    show: Option<(i32, i64)>,
    /// Send all of them back
    #[arg(long)]
    all: bool,
    /// Only those with this reason; may be given several times
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Vec<Reason>,
    /// Only those rejected since then: so long ago (24h), or at a time (2026-11-24T00:00:00Z)
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// At most so many, the oldest of each partition first; with --all, --reason or --since
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
    /// Say what would be sent back (all, unless --reason or --since says which), and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Also what was sent back before, as often as it is said
    #[arg(long)]
    again: bool,
    /// Leave alone what was sent back so often
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    attempts: u32,
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = Reason::ALL.into_iter().map(Reason::as_str).collect();
        format!("the reasons are {}", known.join(", "))
    })
}

fn place(text: &str) -> Result<(i32, i64), String> {
    let place = text.rsplit_once('/').and_then(|(number, offset)| Some((number.parse().ok()?, offset.parse().ok()?)));
    place.ok_or_else(|| "write the partition and the offset, such as 0/17".to_owned())
}

pub(super) fn run(args: &ReplayArgs, printer: &mut Printer) -> Exit {
    let settings = match args.configured.load_without_secrets(printer) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    let now = Clock::machine().wall();
    let choice =
        Choice { reasons: args.reason.clone(), since: args.since.map(|since| since.from(now)), ..Choice::default() };
    let chosen = args.all || !args.reason.is_empty() || args.since.is_some();
    let outcome = if let Some(place) = args.show {
        show::show(&settings, place, now, printer)
    } else if args.list || (!chosen && !args.dry_run) {
        list::list(&settings, &choice, now, printer)
    } else {
        let sending = Sending {
            choice,
            limit: args.limit.unwrap_or(usize::MAX),
            attempts: args.attempts,
            again: args.again,
            dry_run: args.dry_run,
        };
        return block_on(async {
            let sent = sending.run(&settings, printer).await;
            sent.unwrap_or_else(|error| failed(&error, printer))
        });
    };
    outcome.unwrap_or_else(|error| failed(&error, printer))
}

fn failed(error: &ClusterError, printer: &mut Printer) -> Exit {
    printer.complain(&format!("error: {error}"));
    topics::exit_of(error)
}

/// A dead letter at its place. What lies in the topic and is none has no more than that.
struct Found {
    place: Receipt,
    was_sent: bool,
    letter: Option<DeadLetter>,
}

/// The dead letters of a topic.
struct Reader(DeadLetters);

impl Reader {
    fn open(settings: &Settings, config: &KafkaConfig, which: Read) -> Result<Self, ClusterError> {
        let most = settings.input.max_commit_metadata;
        DeadLetters::open(config, &settings.topics.dead_letters, which, most).map(Self)
    }

    fn next(&mut self) -> Result<Option<Found>, ClusterError> {
        let Some((record, was_sent)) = self.0.read()? else { return Ok(None) };
        let place = record.receipt.clone();
        Ok(Some(Found { place, was_sent, letter: DeadLetter::read(record).ok() }))
    }
}

/// What a dead letter's header says, which was escaped when it was written. Whoever else writes to the topic may not have.
fn detail(letter: &DeadLetter) -> String {
    escape::line(&letter.rejection.detail)
}

/// So long ago, in whole units that a person reads.
fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0).unsigned_abs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "s"),
        120..7_200 => (seconds / 60, "min"),
        7_200..172_800 => (seconds / 3_600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{count} {unit} ago")
}
