//! Dead letters on their way back: which are sent where they came from once more, and which can't be.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    dead_letter::DeadLetter,
    outcome::Reason,
    record::{Header, Record},
};

/// The header that says how often a record was sent back. A dead letter keeps its record's headers, so the count survives
/// another rejection.
const ATTEMPT: &str = "alert-ips-attempt";

/// How often the record was sent back from the dead letters; zero for one that just came in.
pub fn attempts(record: &Record) -> u32 {
    let last = record.headers.iter().rev().find(|header| &*header.name == ATTEMPT);
    let text = last.and_then(|header| std::str::from_utf8(header.value.as_deref()?).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Whether the record was sent back, and so may have only what nobody else wants.
pub fn is_sent_back(record: &Record) -> bool {
    attempts(record) > 0
}

/// Which dead letters are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Empty: whatever the reason.
    pub reasons: Vec<Reason>,
    /// Rejected at this time or later.
    pub since: Option<Timestamp>,
    /// Rejected before this time.
    pub until: Option<Timestamp>,
}

impl Choice {
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let at = letter.rejected_at;
        (self.reasons.is_empty() || self.reasons.contains(&letter.rejection.reason))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }
}

/// A record as it is written to its topic once more: the original, with a header that counts.
///
/// It gets the time at which it is sent: Kafka removes what is older than the topic's retention, or does not take it, and
/// both would be lost without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentBack {
    pub topic: Arc<str>,
    pub key: Option<Box<[u8]>>,
    pub payload: Option<Box<[u8]>>,
    pub headers: Vec<Header>,
}

/// Why a dead letter can't be sent back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Stays {
    #[error("only a part of the record was kept: it was too large for the dead letters")]
    Truncated,
    #[error("it came from a topic that is none of topics.input any more")]
    OtherTopic,
    #[error("it was sent back as often as --attempts allows")]
    TooOften,
}

/// The record behind a dead letter, for its topic, if that is one of `inputs` and it was sent back fewer than `most` times.
pub fn sent_back(letter: DeadLetter, inputs: &[Arc<str>], most: u32) -> Result<SentBack, Stays> {
    let before = attempts(&letter.original);
    let Record { receipt, key, payload, mut headers, .. } = letter.original;
    let topic = receipt.partition.topic;
    if letter.truncated_from.is_some() {
        return Err(Stays::Truncated);
    }
    if !inputs.iter().any(|input| **input == *topic) {
        return Err(Stays::OtherTopic);
    }
    if before >= most {
        return Err(Stays::TooOften);
    }
    headers.retain(|header| &*header.name != ATTEMPT);
    headers.push(Header::new(ATTEMPT, (before + 1).to_string()));
    Ok(SentBack { topic, key, payload, headers })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::{
        outcome::Rejection,
        record::{Epoch, Partition, Receipt},
    };

    fn letter(headers: Vec<Header>) -> DeadLetter {
        let partition = Partition { topic: "alerts".into(), number: 3 };
        let original = Record {
            receipt: Receipt { partition, offset: 42, epoch: Epoch::default() },
            key: Some(b"key".as_slice().into()),
            payload: None,
            headers,
            timestamp: Some("2020-01-01T00:00:00Z".parse().unwrap()),
        };
        let rejection = Rejection { reason: Reason::UnknownTenant, detail: "why".into() };
        DeadLetter::new(original, &rejection, "2026-11-23T18:40:00Z".parse().unwrap())
    }

    fn inputs() -> Vec<Arc<str>> {
        vec!["other".into(), "alerts".into()]
    }

    #[test]
    fn the_original_goes_back_to_its_topic_and_counts_how_often() {
        let own = Header::new("traceparent", "00-1");
        let sent = sent_back(letter(vec![own.clone()]), &inputs(), 3).unwrap();
        assert_eq!((&*sent.topic, sent.key.as_deref(), sent.payload.as_deref()), ("alerts", Some(&b"key"[..]), None));
        assert_eq!(sent.headers, [own.clone(), Header::new(ATTEMPT, "1")]);
        let again = sent_back(letter(sent.headers), &inputs(), 3).unwrap();
        assert_eq!(again.headers, [own, Header::new(ATTEMPT, "2")]);
        assert_eq!(attempts(&letter(again.headers).original), 2);
    }

    #[rstest]
    #[case::as_often_as_allowed(DeadLetter { ..letter(vec![Header::new(ATTEMPT, "3")]) }, Stays::TooOften)]
    #[case::truncated(DeadLetter { truncated_from: Some(9), ..letter(Vec::new()) }, Stays::Truncated)]
    fn what_cannot_go_back_says_why(#[case] letter: DeadLetter, #[case] why: Stays) {
        assert_eq!(sent_back(letter, &inputs(), 3), Err(why));
    }

    #[test]
    fn nothing_is_written_to_a_topic_that_is_not_read() {
        assert_eq!(sent_back(letter(Vec::new()), &["other".into()], 3), Err(Stays::OtherTopic));
    }

    #[rstest]
    #[case::none(None, 0)]
    #[case::count(Some(Header::new(ATTEMPT, "7")), 7)]
    #[case::no_number(Some(Header::new(ATTEMPT, "-1")), 0)]
    #[case::not_utf8(Some(Header::new(ATTEMPT, b"\xff")), 0)]
    #[case::null(Some(Header { name: ATTEMPT.into(), value: None }), 0)]
    fn the_count_is_that_of_its_header(#[case] header: Option<Header>, #[case] count: u32) {
        assert_eq!(attempts(&letter(header.into_iter().collect()).original), count);
    }

    #[rstest]
    #[case::all(Choice::default(), true)]
    #[case::reason(Choice { reasons: vec![Reason::NotJson, Reason::UnknownTenant], ..Choice::default() }, true)]
    #[case::other_reason(Choice { reasons: vec![Reason::NotJson], ..Choice::default() }, false)]
    #[case::since(Choice { since: Some("2026-11-23T18:40:00Z".parse().unwrap()), ..Choice::default() }, true)]
    #[case::until(Choice { until: Some("2026-11-23T18:40:00Z".parse().unwrap()), ..Choice::default() }, false)]
    fn a_choice_is_by_reason_and_time(#[case] choice: Choice, #[case] takes: bool) {
        assert_eq!(choice.takes(&letter(Vec::new())), takes);
    }
}
