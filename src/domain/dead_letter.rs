//! Messages that can't be used, kept so that nothing of them is lost.
//!
//! A dead letter is the original message as it was (key, payload, headers, timestamp) with a block of headers after
//! its own that says why, when and where it came from. Only the last headers are that block, so the original comes back
//! exactly even if it carries headers of the same names itself, as the dead letter of a dead letter does.

use jiff::Timestamp;

use super::{
    outcome::{Reason, Rejection},
    record::{Destination, Epoch, Header, Outgoing, Partition, Receipt, Record},
};

/// The names of the block's headers, in their order. `SOURCE_TIMESTAMP` and `TRUNCATED_FROM` are left out where they
/// have nothing to say; `REASON` and `TIME` enclose the block.
mod header {
    pub(super) const REASON: &str = "alert-ips-reason";
    pub(super) const DETAIL: &str = "alert-ips-detail";
    /// What to do.
    pub(super) const REMEDY: &str = "alert-ips-remedy";
    pub(super) const SOURCE_TOPIC: &str = "alert-ips-source-topic";
    pub(super) const SOURCE_PARTITION: &str = "alert-ips-source-partition";
    pub(super) const SOURCE_OFFSET: &str = "alert-ips-source-offset";
    /// The original's Kafka timestamp: a topic with `LogAppendTime` overwrites that of the dead letter.
    pub(super) const SOURCE_TIMESTAMP: &str = "alert-ips-source-timestamp";
    /// Bytes of the whole original (key, payload and headers), where the dead letter holds less.
    pub(super) const TRUNCATED_FROM: &str = "alert-ips-truncated-from";
    pub(super) const TIME: &str = "alert-ips-time";
}

/// Longest `alert-ips-detail`, in bytes.
const MAX_DETAIL_LEN: usize = 1024;

/// What Kafka's record format adds to one record and its batch at most, in bytes, rounded up (61 for the batch, varints
/// for the record).
const RECORD_OVERHEAD: usize = 128;

/// What Kafka's record format adds to one header at most: two varints.
const HEADER_OVERHEAD: usize = 10;

/// A message that can't be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The message as it was consumed. Its receipt names the place; the epoch doesn't survive the topic.
    pub original: Record,
    pub rejection: Rejection,
    /// When it was rejected, in whole milliseconds.
    pub rejected_at: Timestamp,
    /// Bytes of the whole original, where `original` is only a part of it. Such a one can't be replayed.
    pub truncated_from: Option<usize>,
}

impl DeadLetter {
    /// The detail is made printable ASCII and cut to 1024 bytes; the time is cut to milliseconds.
    pub fn new(original: Record, rejection: &Rejection, rejected_at: Timestamp) -> Self {
        let rejection = Rejection { reason: rejection.reason, detail: printable(&rejection.detail) };
        let rejected_at = Timestamp::from_millisecond(rejected_at.as_millisecond()).unwrap_or(rejected_at);
        Self { original, rejection, rejected_at, truncated_from: None }
    }

    /// The dead letter as a record of at most `limit` bytes, as the broker counts them.
    ///
    /// Where the whole doesn't fit, the payload keeps its head; where even none of it fits, the original's headers are
    /// dropped, and then its key, so that the dead letter can always be written.
    pub fn truncated(mut self, limit: usize) -> Self {
        if self.encoded_len() <= limit {
            return self;
        }
        self.truncated_from.get_or_insert(content_len(&self.original));
        let payload = self.original.payload.take();
        if self.encoded_len() > limit {
            self.original.headers.clear();
        }
        if self.encoded_len() > limit {
            self.original.key = None;
        }
        let room = limit.saturating_sub(self.encoded_len());
        self.original.payload = payload.map(|payload| payload[..payload.len().min(room)].into());
        self
    }

    /// The message for the dead-letter topic.
    pub fn into_outgoing(self) -> Outgoing {
        let block = self.block();
        let Record { key, payload, mut headers, timestamp, .. } = self.original;
        headers.extend(block);
        Outgoing { to: Destination::DeadLetters, key, payload, headers, timestamp }
    }

    /// Reads a record of the dead-letter topic back.
    pub fn read(record: Record) -> Result<Self, NotADeadLetter> {
        let Record { key, payload, mut headers, .. } = record;
        let mut block = Block(&mut headers);
        let rejected_at = block.pop(header::TIME)?;
        let truncated_from = block.pop_if_there(header::TRUNCATED_FROM)?;
        let timestamp = block.pop_if_there(header::SOURCE_TIMESTAMP)?;
        let offset = block.pop(header::SOURCE_OFFSET)?;
        let number = block.pop(header::SOURCE_PARTITION)?;
        let topic: String = block.pop(header::SOURCE_TOPIC)?;
        let _: Option<String> = block.pop_if_there(header::REMEDY)?;
        let detail = block.pop(header::DETAIL)?;
        let code: String = block.pop(header::REASON)?;
        let reason = Reason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == code)
            .ok_or(NotADeadLetter { header: header::REASON })?;
        let partition = Partition { topic: topic.into(), number };
        let receipt = Receipt { partition, offset, epoch: Epoch::default() };
        Ok(Self {
            original: Record { receipt, key, payload, headers, timestamp },
            rejection: Rejection { reason, detail },
            rejected_at,
            truncated_from,
        })
    }

    /// The headers that are added to the original's, in their order.
    fn block(&self) -> Vec<Header> {
        let Receipt { partition, offset, .. } = &self.original.receipt;
        let mut block = Vec::with_capacity(9);
        block.extend([
            Header::new(header::REASON, self.rejection.reason.as_str()),
            Header::new(header::DETAIL, &self.rejection.detail),
            Header::new(header::REMEDY, self.rejection.reason.remedy()),
            Header::new(header::SOURCE_TOPIC, partition.topic.as_bytes()),
            Header::new(header::SOURCE_PARTITION, partition.number.to_string()),
            Header::new(header::SOURCE_OFFSET, offset.to_string()),
        ]);
        block.extend(self.original.timestamp.map(|time| Header::new(header::SOURCE_TIMESTAMP, format!("{time:.3}"))));
        block.extend(self.truncated_from.map(|bytes| Header::new(header::TRUNCATED_FROM, bytes.to_string())));
        block.push(Header::new(header::TIME, format!("{:.3}", self.rejected_at)));
        block
    }

    /// Bytes the broker counts for it, rounded up.
    fn encoded_len(&self) -> usize {
        // Whether the block will say that it is truncated is not known yet; count the header always.
        let truncation = header::TRUNCATED_FROM.len() + 20;
        let block = self.block();
        let headers = self.original.headers.len() + block.len() + 1;
        let block: usize = block.iter().map(header_len).sum();
        RECORD_OVERHEAD + HEADER_OVERHEAD * headers + content_len(&self.original) + block + truncation
    }
}

/// A record that no dead letter was written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dead letter of alert-ips: header `{header}` is missing at its place, or unreadable")]
pub struct NotADeadLetter {
    /// The first header of the block, read from its end, that isn't as it must be.
    pub header: &'static str,
}

/// The headers of a dead letter, of which the block is taken off from the end.
struct Block<'a>(&'a mut Vec<Header>);

impl Block<'_> {
    fn pop<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<T, NotADeadLetter> {
        self.pop_if_there(name)?.ok_or(NotADeadLetter { header: name })
    }

    fn pop_if_there<T: std::str::FromStr>(&mut self, name: &'static str) -> Result<Option<T>, NotADeadLetter> {
        let Some(header) = self.0.pop_if(|header| &*header.name == name) else { return Ok(None) };
        let text = header.value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        text.and_then(|text| text.parse().ok()).map(Some).ok_or(NotADeadLetter { header: name })
    }
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(0, <[u8]>::len)
}

fn header_len(header: &Header) -> usize {
    header.name.len() + bytes_len(header.value.as_deref())
}

/// Bytes of the key, the payload and the headers.
fn content_len(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(header_len).sum();
    bytes_len(record.key.as_deref()) + bytes_len(record.payload.as_deref()) + headers
}

/// Printable ASCII, everything else escaped, cut to [`MAX_DETAIL_LEN`].
fn printable(text: &str) -> String {
    let mut kept = String::new();
    for char in text.chars() {
        let plain = char == ' ' || char.is_ascii_graphic();
        let shown = if plain { char.to_string() } else { char.escape_default().to_string() };
        if kept.len() + shown.len() + "...".len() > MAX_DETAIL_LEN {
            kept.push_str("...");
            break;
        }
        kept.push_str(&shown);
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const AT: Timestamp = Timestamp::constant(1_795_459_200, 123_000_000);

    fn record() -> Record {
        Record {
            receipt: Receipt {
                partition: Partition { topic: "defender.alerts".into(), number: 3 },
                offset: 42,
                epoch: Epoch::default(),
            },
            key: Some(b"key".as_slice().into()),
            payload: Some(b"{\"id\":".as_slice().into()),
            headers: vec![Header::new("x", "1"), Header { name: "x".into(), value: None }],
            timestamp: Some("2026-11-23T18:39:00.007Z".parse().unwrap()),
        }
    }

    fn rejection(detail: &str) -> Rejection {
        Rejection { reason: Reason::NotJson, detail: detail.into() }
    }

    /// What a consumer of the dead-letter topic gets: another place, another timestamp.
    fn consumed(outgoing: Outgoing) -> Record {
        let Outgoing { key, payload, headers, .. } = outgoing;
        let partition = Partition { topic: "defender.alert-ips.dead-letters".into(), number: 0 };
        let receipt = Receipt { partition, offset: 7, epoch: Epoch(9) };
        Record { receipt, key, payload, headers, timestamp: Some(AT) }
    }

    #[test]
    fn a_dead_letter_is_the_original_and_a_block_of_headers_after_its_own() {
        let original = record();
        let outgoing = DeadLetter::new(original.clone(), &rejection("not JSON at byte 6"), AT).into_outgoing();
        assert_eq!(outgoing.to, Destination::DeadLetters);
        assert_eq!((&outgoing.key, &outgoing.payload), (&original.key, &original.payload));
        assert_eq!(outgoing.timestamp, original.timestamp);
        assert_eq!(outgoing.headers[..2], original.headers);
        let block = [
            ("alert-ips-reason", "not_json"),
            ("alert-ips-detail", "not JSON at byte 6"),
            ("alert-ips-remedy", Reason::NotJson.remedy()),
            ("alert-ips-source-topic", "defender.alerts"),
            ("alert-ips-source-partition", "3"),
            ("alert-ips-source-offset", "42"),
            ("alert-ips-source-timestamp", "2026-11-23T18:39:00.007Z"),
            ("alert-ips-time", "2026-11-23T18:40:00.123Z"),
        ];
        assert_eq!(outgoing.headers[2..], block.map(|(name, value)| Header::new(name, value)));
    }

    #[rstest]
    #[case::null_key(Record { key: None, ..record() })]
    #[case::null_payload(Record { payload: None, ..record() })]
    #[case::empty_payload(Record { payload: Some([].into()), ..record() })]
    #[case::no_timestamp(Record { timestamp: None, ..record() })]
    #[case::no_headers(Record { headers: vec![], ..record() })]
    #[case::hostile_bytes(Record {
        key: Some(b"\r\n\x1b[2J".as_slice().into()),
        headers: vec![Header::new("a\r\nb", b"\xff\0\x1b")],
        ..record()
    })]
    #[case::headers_named_like_the_block(Record {
        headers: vec![
            Header::new(header::REASON, "poison"),
            Header::new(header::TIME, "now"),
            Header::new(header::TRUNCATED_FROM, "1"),
            Header::new(header::SOURCE_TIMESTAMP, "2020-01-01T00:00:00.000Z"),
        ],
        ..record()
    })]
    #[case::a_dead_letter_itself(consumed(DeadLetter::new(record(), &rejection("x"), AT).into_outgoing()))]
    fn the_original_comes_back_exactly(#[case] original: Record) {
        let written = DeadLetter::new(original.clone(), &rejection("why"), AT);
        let read = DeadLetter::read(consumed(written.clone().into_outgoing())).unwrap();
        let expected = Receipt { epoch: Epoch::default(), ..original.receipt.clone() };
        assert_eq!(read.original, Record { receipt: expected, ..original });
        assert_eq!((read.rejection, read.rejected_at, read.truncated_from), (written.rejection, AT, None));
    }

    #[test]
    fn a_record_without_the_block_is_no_dead_letter() {
        assert_eq!(DeadLetter::read(record()), Err(NotADeadLetter { header: header::TIME }));
    }

    #[rstest]
    #[case::something_after_the_block(10, Some(Header::new("late", "")), header::TIME)]
    #[case::one_missing(3, None, header::DETAIL)]
    #[case::unknown_reason(2, Some(Header::new(header::REASON, "mood")), header::REASON)]
    #[case::offset_is_no_number(7, Some(Header::new(header::SOURCE_OFFSET, "x")), header::SOURCE_OFFSET)]
    #[case::null_value(5, Some(Header { name: header::SOURCE_TOPIC.into(), value: None }), header::SOURCE_TOPIC)]
    #[case::not_utf8(3, Some(Header::new(header::DETAIL, b"\xff")), header::DETAIL)]
    fn a_changed_block_is_not_taken_for_one(
        #[case] at: usize,
        #[case] replaced_by: Option<Header>,
        #[case] header: &'static str,
    ) {
        let mut record = consumed(DeadLetter::new(record(), &rejection("why"), AT).into_outgoing());
        let end = record.headers.len().min(at + 1);
        record.headers.splice(at..end, replaced_by);
        assert_eq!(DeadLetter::read(record), Err(NotADeadLetter { header }));
    }

    #[test]
    fn a_record_of_ten_mebibytes_keeps_the_head_of_its_payload_and_says_so() {
        let original = Record { payload: Some(vec![b'x'; 10 << 20].into()), ..record() };
        let letter = DeadLetter::new(original, &rejection("why"), AT).truncated(1_000_000);
        let len = letter.encoded_len();
        assert!((999_000..=1_000_000).contains(&len), "{len}");
        let read = DeadLetter::read(consumed(letter.clone().into_outgoing())).unwrap();
        assert_eq!(read, letter);
        assert_eq!(read.truncated_from, Some((10 << 20) + 3 + 2 + 1));
    }

    #[test]
    fn headers_and_key_go_too_where_they_alone_are_too_much() {
        let big = vec![b'x'; 5_000];
        let original = Record { key: Some(big.clone().into()), headers: vec![Header::new("big", &big)], ..record() };
        let letter = DeadLetter::new(original, &rejection("why"), AT).truncated(2_000);
        assert_eq!((&letter.original.key, letter.original.headers.len()), (&None, 0));
        assert_eq!(letter.original.payload.as_deref(), Some(b"{\"id\":".as_slice()));
        assert!(letter.encoded_len() <= 2_000);
    }

    #[test]
    fn the_time_comes_back_as_it_was_kept_in_milliseconds() {
        let letter = DeadLetter::new(record(), &rejection("why"), "2026-11-23T18:40:00.1239999Z".parse().unwrap());
        assert_eq!(letter.rejected_at, AT);
    }

    #[test]
    fn what_fits_is_not_truncated() {
        let letter = DeadLetter::new(record(), &rejection("why"), AT);
        assert_eq!(letter.clone().truncated(10_000), letter);
    }

    #[rstest]
    #[case::control_characters("a\r\n\u{1b}[2J", "a\\r\\n\\u{1b}[2J")]
    #[case::right_to_left_override("\u{202e}x", "\\u{202e}x")]
    fn details_are_printable(#[case] detail: &str, #[case] shown: &str) {
        assert_eq!(DeadLetter::new(record(), &rejection(detail), AT).rejection.detail, shown);
    }

    #[test]
    fn details_are_bounded() {
        let detail = DeadLetter::new(record(), &rejection(&"\u{1b}".repeat(10_000)), AT).rejection.detail;
        assert!(detail.len() <= MAX_DETAIL_LEN && detail.ends_with("..."), "{}", detail.len());
    }

    fn any_bytes() -> impl Strategy<Value = Option<Box<[u8]>>> {
        any::<Option<Vec<u8>>>().prop_map(|bytes| bytes.map(Into::into))
    }

    fn any_header() -> impl Strategy<Value = Header> {
        let name = prop_oneof![any::<String>(), "alert-ips-(reason|detail|time|source-timestamp|truncated-from)"];
        (name, any_bytes()).prop_map(|(name, value)| Header { name: name.into(), value })
    }

    prop_compose! {
        fn any_record()(
            key in any_bytes(),
            payload in any_bytes(),
            headers in prop::collection::vec(any_header(), 0..6),
            millis in prop::option::of(-1_000_000_000_000_i64..=253_000_000_000_000),
            number in 0..i32::MAX,
            offset in 0..i64::MAX,
            topic in "[a-zA-Z0-9._-]{1,249}",
        ) -> Record {
            let timestamp = millis.map(|millis| Timestamp::from_millisecond(millis).unwrap());
            let partition = Partition { topic: topic.into(), number };
            Record { receipt: Receipt { partition, offset, epoch: Epoch::default() }, key, payload, headers, timestamp }
        }
    }

    proptest! {
        #[test]
        fn record_to_dead_letter_to_record_is_the_identity(original in any_record(), detail in any::<String>()) {
            let letter = DeadLetter::new(original.clone(), &rejection(&detail), AT);
            let read = DeadLetter::read(consumed(letter.clone().into_outgoing())).unwrap();
            prop_assert_eq!(&read.original, &original);
            prop_assert_eq!(read, letter);
        }

        #[test]
        fn truncated_ones_fit_and_are_read_back_as_written(original in any_record(), limit in 2_000_usize..3_000) {
            let letter = DeadLetter::new(original, &rejection("why"), AT).truncated(limit);
            prop_assert!(letter.encoded_len() <= limit);
            prop_assert_eq!(DeadLetter::read(consumed(letter.clone().into_outgoing())).unwrap(), letter);
        }

        #[test]
        fn any_record_is_read_without_a_panic(record in any_record()) {
            let _ = DeadLetter::read(record);
        }
    }
}
