//! Sends dead letters back, a few at a time, and waits until each is decided.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use super::{
    super::{
        Exit,
        print::Printer,
        signals::StopSignals,
        topics::{self, counted},
    },
    Found, Reader,
};
use crate::{
    config::Settings,
    daemon::kafka_config,
    domain::{
        outcome::Reason,
        record::{Partition, Receipt},
        replay::{Choice, SentBack, Stays, sent_back},
    },
    kafka::{
        client::KafkaConfig,
        replay::{self as kafka, Read, Sender},
        topics::ClusterError,
    },
};

/// How many may be on their way at once: they take room in the daemon's read window for as long as they wait.
const AT_ONCE: usize = 100;

/// And what part of that window, by number and by size.
const PART: usize = 8;

/// How often it is looked which of them are decided.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// After so long without any that is decided it is said what that may mean.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which are sent back.
pub(super) struct Sending {
    pub(super) choice: Choice,
    pub(super) limit: usize,
    /// Most times a record is sent back.
    pub(super) attempts: u32,
    /// Also those that were sent back before.
    pub(super) again: bool,
    pub(super) dry_run: bool,
}

/// What has become of them so far.
#[derive(Debug, Default)]
struct Tally {
    chosen: usize,
    sent: usize,
    decided: usize,
    failed: usize,
    stay: BTreeMap<Stays, usize>,
    /// Whether all that was sent is noted.
    is_noted: bool,
}

impl Sending {
    pub(super) async fn run(self, settings: &Settings, printer: &mut Printer) -> Result<Exit, ClusterError> {
        let config = kafka_config(settings);
        let mut tally = self.survey(settings, &config)?;
        if self.dry_run || tally.chosen == 0 {
            printer.say(&tally.plan(self.dry_run));
            let could_not = !self.dry_run && !tally.stay.is_empty();
            return Ok(if could_not { Exit::No } else { Exit::Done });
        }
        let mut letters = Reader::open(settings, &config, self.which())?;
        let sender = Sender::new(&config)?;
        // From here on a signal does not end the process by itself: what is sent is noted first.
        let mut signals = match StopSignals::new() {
            Ok(signals) => signals,
            Err(error) => {
                printer.complain(&format!("error: no signals can be waited for: {error}"));
                return Ok(Exit::Internal);
            }
        };
        // A right that is missing shows before anything is sent.
        letters.0.keep_notes()?;
        let mut sent = HashSet::new();
        let interrupted = loop {
            let batch = self.batch(settings, &mut letters, self.limit - tally.sent - tally.failed)?;
            if batch.is_empty() {
                break false;
            }
            letters.0.refuse_others()?;
            let places = send(&mut letters, &sender, batch, &mut tally, printer)?;
            if places.is_empty() {
                break false;
            }
            sent.extend(places.iter().cloned());
            tokio::select! {
                waited = wait(&config, places, &mut tally, printer) => waited?,
                _ = signals.next() => break true,
            }
        };
        printer.progress("");
        // In a transaction, what is settled may be seen a moment before what was rejected.
        tokio::time::sleep(LOOK_EVERY).await;
        let rejected = rejected_again(settings, &config, &sent)?;
        printer.say(&tally.summary(&rejected, interrupted));
        let is_done = !interrupted && tally.failed == 0 && rejected.is_empty();
        Ok(if is_done { Exit::Done } else { Exit::No })
    }

    fn which(&self) -> Read {
        if self.again { Read::AllAnew } else { Read::Unsent }
    }

    /// How many there are, and how many of them can't be sent back.
    fn survey(&self, settings: &Settings, config: &KafkaConfig) -> Result<Tally, ClusterError> {
        let mut letters = Reader::open(settings, config, self.which())?;
        let mut tally = Tally { is_noted: true, ..Tally::default() };
        while let Some(letter) = letters.next()? {
            match self.chosen(settings, letter) {
                Some(Ok(_)) if tally.chosen < self.limit => tally.chosen += 1,
                Some(Err(stays)) => *tally.stay.entry(stays).or_default() += 1,
                Some(Ok(_)) | None => {}
            }
        }
        Ok(tally)
    }

    /// The next to send, `left` at most.
    fn batch(
        &self,
        settings: &Settings,
        letters: &mut Reader,
        left: usize,
    ) -> Result<Vec<(Receipt, SentBack)>, ClusterError> {
        let mut batch = Vec::new();
        let (records, bytes) = (settings.input.max_open_records / PART, settings.input.max_open_bytes / PART);
        let at_once = AT_ONCE.min(records.max(1)).min(left);
        let mut held = 0;
        while batch.len() < at_once && held < bytes {
            let Some(letter) = letters.next()? else { break };
            let place = letter.place.clone();
            if let Some(Ok(record)) = self.chosen(settings, letter) {
                held += record.payload.as_deref().map_or(0, <[u8]>::len);
                batch.push((place, record));
            }
        }
        Ok(batch)
    }

    /// The letter's record if it is to be sent back, or why it can't be; `None`: it was not asked for.
    fn chosen(&self, settings: &Settings, letter: Found) -> Option<Result<SentBack, Stays>> {
        let Found { was_sent, letter: Some(letter), .. } = letter else { return None };
        if was_sent || !self.choice.takes(&letter) {
            return None;
        }
        Some(sent_back(letter, &settings.topics.input, self.attempts))
    }
}

/// Sends them, and notes those that are in Kafka. Returns where they are.
fn send(
    letters: &mut Reader,
    sender: &Sender,
    batch: Vec<(Receipt, SentBack)>,
    tally: &mut Tally,
    printer: &mut Printer,
) -> Result<Vec<(Partition, i64)>, ClusterError> {
    let (from, records): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
    let mut places = Vec::with_capacity(records.len());
    for (from, delivery) in from.iter().zip(sender.send(&records)) {
        match delivery {
            Ok(place) => {
                letters.0.note(&from.partition, from.offset);
                places.push(place);
            }
            Err(words) => {
                printer.complain(&format!("error: {from} was not sent back: {words}"));
                tally.failed += 1;
            }
        }
    }
    tally.sent += places.len();
    tally.is_noted &= letters.0.keep_notes()?;
    Ok(places)
}

/// Waits until the daemon has decided all of them.
async fn wait(
    config: &KafkaConfig,
    mut places: Vec<(Partition, i64)>,
    tally: &mut Tally,
    printer: &mut Printer,
) -> Result<(), ClusterError> {
    let mut silent = Duration::ZERO;
    while !places.is_empty() {
        printer.progress(&tally.bar());
        tokio::time::sleep(LOOK_EVERY).await;
        let before = places.len();
        let (config, asked) = (config.clone(), places.clone());
        let looked = tokio::task::spawn_blocking(move || kafka::settled(&config, &asked)).await;
        match looked.unwrap_or(Err(ClusterError::BrokenOff)) {
            Ok(settled) => {
                let mut is_settled = settled.into_iter();
                places.retain(|_| !is_settled.next().unwrap_or_default());
            }
            // A right that is missing or a configuration that is wrong stays so; a broker that is away comes back.
            Err(error) if topics::exit_of(&error) == Exit::Config => return Err(error),
            Err(_) => {}
        }
        tally.decided += before - places.len();
        silent = if places.len() < before { Duration::ZERO } else { silent + LOOK_EVERY };
        if silent >= PATIENCE && silent < PATIENCE + LOOK_EVERY {
            printer.progress("");
            printer.complain(
                "nothing was decided for a minute: the daemon is not running, alerts that came in need all calls, or what was sent \
                 back before comes first; what was sent back waits in its topic, also if this command is ended",
            );
        }
    }
    Ok(())
}

/// Of the records at these places: how many became dead letters again, by reason.
fn rejected_again(
    settings: &Settings,
    config: &KafkaConfig,
    sent: &HashSet<(Partition, i64)>,
) -> Result<BTreeMap<&'static str, usize>, ClusterError> {
    let mut letters = Reader::open(settings, config, Read::Unsent)?;
    let mut rejected = BTreeMap::new();
    while let Some(Found { letter, .. }) = letters.next()? {
        let Some(letter) = letter else { continue };
        let Receipt { partition, offset, .. } = letter.original.receipt;
        if sent.contains(&(partition, offset)) {
            *rejected.entry(Reason::as_str(letter.rejection.reason)).or_default() += 1;
        }
    }
    Ok(rejected)
}

impl Tally {
    /// What would be, or can't be, sent back.
    fn plan(&self, dry_run: bool) -> String {
        let what = match (self.chosen, dry_run) {
            (0, _) => "nothing is there to be sent back".to_owned(),
            (chosen, _) => format!("{} would be sent back", counted(chosen, "dead letter")),
        };
        [vec![what], self.stays()].concat().join("\n")
    }

    fn stays(&self) -> Vec<String> {
        self.stay.iter().map(|(why, count)| format!("{} left alone: {why}", counted(*count, "dead letter"))).collect()
    }

    /// How far it has come, in one line.
    fn bar(&self) -> String {
        const WIDTH: usize = 30;
        let filled = (self.decided * WIDTH).checked_div(self.chosen).unwrap_or(WIDTH).min(WIDTH);
        let waiting = self.sent - self.decided;
        format!(
            "[{}{}] {} of {} decided, {waiting} on their way",
            "#".repeat(filled),
            "-".repeat(WIDTH - filled),
            self.decided,
            self.chosen
        )
    }

    fn summary(&self, rejected: &BTreeMap<&str, usize>, interrupted: bool) -> String {
        let mut text =
            vec![format!("{} sent back, {} of them decided", counted(self.sent, "dead letter"), self.decided)];
        let again: Vec<_> = rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        if !again.is_empty() {
            text.push(format!("dead letters once more: {}", again.join(", ")));
        }
        if self.failed > 0 {
            text.push(format!("{} could not be sent", self.failed));
        }
        if interrupted && self.sent > self.decided {
            text.push("interrupted: what is on its way stays in its topic, and is decided by the daemon".to_owned());
        }
        if !self.is_noted {
            text.push(
                "not all that was sent could be noted, for too much in between was not: such would be sent again by the next \
                 run; raise input.max_commit_metadata and offset.metadata.max.bytes of the brokers, or send back more at once"
                    .to_owned(),
            );
        }
        text.extend(self.stays());
        text.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        Tally { chosen: 200, sent: 100, decided: 50, is_noted: true, ..Tally::default() }
    }

    #[test]
    fn the_bar_is_as_full_as_what_is_decided() {
        assert_eq!(tally().bar(), "[#######-----------------------] 50 of 200 decided, 50 on their way");
    }

    #[test]
    fn the_summary_says_what_was_not_done() {
        let tally = Tally { failed: 2, is_noted: false, stay: [(Stays::Truncated, 1)].into(), ..tally() };
        let text = tally.summary(&[("not_json", 3)].into(), true);
        for words in [
            "100 dead letters sent back, 50 of them decided",
            "dead letters once more: 3 not_json",
            "2 could not be sent",
            "interrupted",
            "max_commit_metadata",
            "1 dead letter left alone: only a part",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(Tally::default().plan(true), "nothing is there to be sent back");
    }
}
