//! One dead letter, whole.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    super::{
        Exit,
        print::{Printer, readable},
    },
    Found, Reader, ago,
};
use crate::{
    config::Settings,
    daemon::kafka_config,
    domain::{dead_letter::DeadLetter, record::Header, replay},
    kafka::{replay::Read, topics::ClusterError},
};

pub(super) fn show(
    settings: &Settings,
    (number, offset): (i32, i64),
    now: Timestamp,
    printer: &mut Printer,
) -> Result<Exit, ClusterError> {
    let topic = &settings.topics.dead_letters;
    let mut reader = Reader::open(settings, &kafka_config(settings), Read::All)?;
    while let Some(found) = reader.next()? {
        if (found.place.partition.number, found.place.offset) != (number, offset) {
            continue;
        }
        let Found { place, was_sent, letter: Some(letter) } = found else {
            printer
                .complain(&format!("error: the record at {number}/{offset} of {topic} is no dead letter of alert-ips"));
            return Ok(Exit::No);
        };
        printer.say(&text(&place.to_string(), was_sent, &letter, now));
        return Ok(Exit::Done);
    }
    printer.complain(&format!("error: there is no record at {number}/{offset} of {topic}"));
    Ok(Exit::No)
}

fn text(place: &str, was_sent: bool, letter: &DeadLetter, now: Timestamp) -> String {
    let DeadLetter { original, rejection, rejected_at, truncated_from } = letter;
    let written = original.timestamp.map_or_else(String::new, |time| format!(", written {time:.3}"));
    let sent = match (was_sent, replay::attempts(original)) {
        (true, _) => "yes".to_owned(),
        (false, 0) => "no".to_owned(),
        (false, before) => format!("not this one; its record was, {before} times before it was rejected again"),
    };
    let mut text = format!(
        "dead letter  {place}\nrejected     {rejected_at:.3}, {}\nreason       {}: {}\nremedy       {}\nsource       {}{written}\n\
         sent back    {sent}\nkey          {}\n",
        ago(*rejected_at, now),
        rejection.reason.as_str(),
        super::detail(letter),
        rejection.reason.remedy(),
        readable(&original.receipt.to_string()),
        original.key.as_deref().map_or_else(|| "none".to_owned(), shown),
    );
    for Header { name, value } in &original.headers {
        let value = value.as_deref().map_or_else(|| "none".to_owned(), shown);
        // Writing to a string can't fail.
        let _ = writeln!(text, "header       {}: {value}", readable(name));
    }
    let whole =
        truncated_from.map_or_else(String::new, |bytes| format!("; the record had {bytes}, the rest was cut off"));
    match &original.payload {
        None => text.push_str("payload      none (a tombstone)"),
        Some(payload) => {
            let _ = write!(text, "payload      {} bytes{whole}\n{}", payload.len(), shown(payload));
        }
    }
    text
}

/// Bytes for a terminal: text as it is, but for what a terminal would obey.
fn shown(bytes: &[u8]) -> String {
    let plain =
        |char: char| if char == '\n' || char == '\t' { char.to_string() } else { char.escape_debug().to_string() };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.chars().map(|char| if char.is_control() { plain(char) } else { char.to_string() }).collect(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        outcome::{Reason, Rejection},
        record::{Epoch, Partition, Receipt, Record},
    };

    #[test]
    fn a_dead_letter_is_shown_whole_and_nothing_in_it_reaches_the_terminal_as_an_order() {
        let original = Record {
            receipt: Receipt {
                partition: Partition { topic: "alerts".into(), number: 3 },
                offset: 42,
                epoch: Epoch::default(),
            },
            key: Some(b"\xff".as_slice().into()),
            payload: Some("{\n\u{1b}[2J\"ä\"".as_bytes().into()),
            headers: vec![Header::new("x", "1"), Header { name: "\r".into(), value: None }],
            timestamp: None,
        };
        let at: Timestamp = "2026-11-23T18:40:00Z".parse().unwrap();
        let rejection = Rejection { reason: Reason::NotJson, detail: "not JSON at byte 2".into() };
        let text = text("dead/0/17", false, &DeadLetter::new(original, &rejection, at), at);
        let expected = [
            "dead letter  dead/0/17",
            "rejected     2026-11-23T18:40:00.000Z, 0 s ago",
            "reason       not_json: not JSON at byte 2",
            "remedy       mend what writes to the topic: what was cut off or mangled can't be made whole from here",
            "source       alerts/3/42",
            "sent back    no",
            "key          \\xff",
            "header       x: 1",
            "header       \\r: none",
            "payload      10 bytes",
            "{",
            "\\u{1b}[2J\"ä\"",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
