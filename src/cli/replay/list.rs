//! What is in the dead letters, by reason and source.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    super::{
        Exit,
        print::{Printer, aligned, readable},
        topics::counted,
    },
    Found, Reader, ago,
};
use crate::{
    config::Settings,
    daemon::kafka_config,
    domain::{outcome::Reason, replay::Choice},
    kafka::{replay::Read, topics::ClusterError},
};

pub(super) fn list(
    settings: &Settings,
    choice: &Choice,
    now: Timestamp,
    printer: &mut Printer,
) -> Result<Exit, ClusterError> {
    let mut reader = Reader::open(settings, &kafka_config(settings), Read::All)?;
    let mut inventory = Inventory::default();
    while let Some(letter) = reader.next()? {
        inventory.add(&letter, choice);
    }
    printer.say(&inventory.text(&settings.topics.dead_letters, now));
    Ok(Exit::Done)
}

/// How many there are of each kind.
#[derive(Debug, Default)]
struct Inventory {
    kinds: BTreeMap<(&'static str, String), Kind>,
    /// Records that are no dead letters.
    others: usize,
}

/// The dead letters of one reason and source.
#[derive(Debug)]
struct Kind {
    reason: Reason,
    letters: usize,
    sent_back: usize,
    oldest: Timestamp,
    newest: Timestamp,
    /// Where the newest is, and what it says.
    last: (String, String),
}

impl Inventory {
    fn add(&mut self, Found { place, was_sent, letter }: &Found, choice: &Choice) {
        let Some(letter) = letter else {
            self.others += 1;
            return;
        };
        if !choice.takes(letter) {
            return;
        }
        let (reason, at) = (letter.rejection.reason, letter.rejected_at);
        let source = readable(&letter.original.receipt.partition.topic);
        let last = || (format!("{}/{}", place.partition.number, place.offset), super::detail(letter));
        let kind = self.kinds.entry((reason.as_str(), source)).or_insert_with(|| Kind {
            reason,
            letters: 0,
            sent_back: 0,
            oldest: at,
            newest: at,
            last: last(),
        });
        kind.letters += 1;
        kind.sent_back += usize::from(*was_sent);
        kind.oldest = kind.oldest.min(at);
        if at > kind.newest {
            (kind.newest, kind.last) = (at, last());
        }
    }

    fn text(&self, topic: &str, now: Timestamp) -> String {
        let mut text = Vec::new();
        if self.kinds.is_empty() {
            text.push(format!("no dead letters in {topic}, of those that were asked for"));
        } else {
            text.push(self.table(now));
        }
        for kind in self.kinds.values() {
            let (place, detail) = &kind.last;
            let (reason, remedy) = (kind.reason.as_str(), kind.reason.remedy());
            text.push(format!("\n{reason}: {remedy}\n  the newest, at {place}: {detail}"));
        }
        if self.kinds.values().any(|kind| kind.sent_back < kind.letters) {
            text.push(
                "\n`alert-ips replay --show PARTITION/OFFSET` shows one, `alert-ips replay --reason REASON` sends back"
                    .to_owned(),
            );
        }
        if self.others > 0 {
            let others = counted(self.others, "record");
            text.push(format!("\n{others} in {topic} are no dead letters of alert-ips, and are left alone"));
        }
        text.join("\n")
    }

    fn table(&self, now: Timestamp) -> String {
        let head = ["REASON", "SOURCE", "LETTERS", "SENT BACK", "OLDEST", "NEWEST"].map(str::to_owned).to_vec();
        let row = |((reason, source), kind): (&(&str, String), &Kind)| {
            let counts = [kind.letters, kind.sent_back].map(|count| count.to_string());
            let times = [kind.oldest, kind.newest].map(|time| ago(time, now));
            [vec![(*reason).to_owned(), source.clone()], counts.to_vec(), times.to_vec()].concat()
        };
        let rows: Vec<_> = std::iter::once(head).chain(self.kinds.iter().map(row)).collect();
        aligned(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        dead_letter::DeadLetter,
        outcome::Rejection,
        record::{Epoch, Partition, Receipt, Record},
    };

    const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);

    fn letter(offset: i64, reason: Reason, seconds_ago: i64, was_sent: bool) -> Found {
        let receipt = |topic: &str| Receipt {
            partition: Partition { topic: topic.into(), number: 1 },
            offset,
            epoch: Epoch::default(),
        };
        let original =
            Record { receipt: receipt("alerts"), key: None, payload: None, headers: Vec::new(), timestamp: None };
        let rejection = Rejection { reason, detail: format!("it can't be {offset}") };
        let at = NOW - std::time::Duration::from_secs(seconds_ago.unsigned_abs());
        Found { place: receipt("dead"), was_sent, letter: Some(DeadLetter::new(original, &rejection, at)) }
    }

    #[test]
    fn dead_letters_are_counted_by_reason_and_source_with_the_remedy() {
        let mut inventory = Inventory::default();
        for letter in [
            letter(7, Reason::UnknownTenant, 90_000, true),
            letter(8, Reason::UnknownTenant, 60, false),
            letter(9, Reason::NotJson, 7_300, false),
            Found { letter: None, ..letter(10, Reason::NotJson, 0, false) },
        ] {
            inventory.add(&letter, &Choice::default());
        }
        let text = inventory.text("dead", NOW);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "REASON          SOURCE  LETTERS  SENT BACK  OLDEST    NEWEST");
        assert_eq!(lines[1], "not_json        alerts  1        0          2 h ago   2 h ago");
        assert_eq!(lines[2], "unknown_tenant  alerts  2        1          25 h ago  60 s ago");
        assert!(text.contains("unknown_tenant: add [accounts.NAME]"), "{text}");
        assert!(text.contains("the newest, at 1/8: it can't be 8"), "{text}");
        assert!(text.contains("1 record in dead are no dead letters"), "{text}");
    }

    #[test]
    fn a_detail_is_shown_as_its_header_has_it() {
        let receipt = letter(7, Reason::NotJson, 0, false).place;
        let original = Record { receipt, key: None, payload: None, headers: Vec::new(), timestamp: None };
        let rejection = Rejection { reason: Reason::NotJson, detail: "päck\n".into() };
        let mut letter =
            Found { letter: Some(DeadLetter::new(original, &rejection, NOW)), ..letter(7, Reason::NotJson, 0, false) };
        let shown = |letter: &Found| {
            let mut inventory = Inventory::default();
            inventory.add(letter, &Choice::default());
            inventory.text("dead", NOW)
        };
        assert!(shown(&letter).contains(r"the newest, at 1/7: p\u{e4}ck\n"), "{}", shown(&letter));
        // Such a header was written by somebody else.
        letter.letter.as_mut().unwrap().rejection.detail = "a\u{1b}[2J".into();
        assert!(shown(&letter).contains(r"the newest, at 1/7: a\u{1b}[2J"), "{}", shown(&letter));
    }

    #[test]
    fn what_was_not_asked_for_is_not_counted() {
        let mut inventory = Inventory::default();
        let choice = Choice { reasons: vec![Reason::Poison], ..Choice::default() };
        inventory.add(&letter(7, Reason::NotJson, 0, false), &choice);
        assert_eq!(inventory.text("dead", NOW), "no dead letters in dead, of those that were asked for");
    }
}
