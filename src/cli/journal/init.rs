//! `alert-ips journal init --assume-unspent`: an operator's word that an empty journal has forgotten nothing.

use std::time::Duration;

use clap::Args;

use super::{
    super::{Configured, Exit, block_on, lookup, print::Printer},
    Failure, History, JournalTime, journal_time, kafka_config, look, text,
};
use crate::{
    clock::Clock,
    config::{AccountSettings, Settings},
    domain::{
        audit::Audit,
        journal::{Body, Entry, EntryId, Freeze, WriterId, write_message},
    },
};

const AFTER_HELP: &str = "\
An empty journal can't prove that nothing was spent. Where its topic was deleted and created anew, where its entries were \
lost, or where a group that has worked before meets an empty one, the daemon takes the longest limit (an hour) for spent and \
makes no call until it has passed. This command ends that at once, and with it every other pause that the journal knows of, \
also one that the API asked for (429).

Right, if you know that no call was made with this app registration for the period of its longest limit, by no instance and \
no other tool: the first start of a group that existed before, a topic renamed while all instances had stopped for longer \
than an hour.

Wrong in every other case, above all after a journal was lost while instances were at work: then up to twice the limit may be \
spent within an hour, the API answers 429, and alerts wait for longer than the hour would have taken. If in doubt, wait.

Exits with 0 once the word is in the journal, with 1 if the journal does not exist, no broker answers, or it is not known \
whether the word is in it (then say it again, that does no harm), and with 78 if the configuration or the rights don't allow \
it.";

#[derive(Args, Debug)]
#[command(after_help = AFTER_HELP)]
pub(super) struct InitArgs {
    #[command(flatten)]
    configured: Configured,
    /// Say so: nothing that the journal does not show was spent of the account's limits
    #[arg(long, required = true)]
    assume_unspent: bool,
    /// The account to vouch for; needed where several are configured
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
}

pub(super) fn run(args: &InitArgs, printer: &mut Printer) -> Exit {
    debug_assert!(args.assume_unspent, "the command line demands it");
    let settings = match args.configured.load_without_secrets(printer) {
        Ok(loaded) => loaded.settings,
        Err(exit) => return exit,
    };
    match lookup::account(&settings, args.account.as_deref()) {
        Ok(account) => block_on(async {
            let vouched = vouch(&settings, account, printer).await;
            vouched.map_or_else(|failure| failure.tell(printer), |()| Exit::Done)
        }),
        Err(words) => {
            printer.complain(&format!("error: {words}"));
            Exit::Usage
        }
    }
}

async fn vouch(settings: &Settings, account: &AccountSettings, printer: &mut Printer) -> Result<(), Failure> {
    let config = kafka_config(settings);
    look(settings, &config, printer).await?;
    let mut history = History::open(&config, settings, account, Duration::ZERO)?;
    history.read(JournalTime::default(), printer).await?;
    let frozen = frozen(&history.audit);
    let offset = history.append(&write_message(&[word(&settings.instance.name)])).await?;
    let topic = &settings.topics.journal;
    printer.say(&format!(
        "account {}: the journal {topic} now says, at offset {offset}, that nothing was spent beside what it shows\n{frozen}",
        account.name
    ));
    Ok(())
}

/// As a writer that has written nothing before and writes nothing after.
fn word(instance: &str) -> Entry {
    let freeze = Freeze { lasts: Duration::ZERO, why: format!("{instance}: an operator says that nothing was spent") };
    let id = EntryId { writer: WriterId(rand::random()), number: 1 };
    Entry { id, instance: instance.into(), body: Body::Freeze(freeze) }
}

/// What the word ended.
fn frozen(audit: &Audit) -> String {
    let now = journal_time(Clock::machine().wall());
    let holds: Vec<_> = audit.pauses().filter(|pause| pause.until > now).map(text::freeze_words).collect();
    if holds.is_empty() {
        "no pause was in force".to_owned()
    } else {
        holds.iter().map(|words| format!("ended: {words}")).collect::<Vec<_>>().join("\n")
    }
}
