//! Where an account's entries lie, and whether they still lie there: the decisions, without the asking.

use std::hash::{DefaultHasher, Hash, Hasher as _};

/// The partition of `key`, as Java's default partitioner chooses it (murmur2), so that every Kafka tool finds and places
/// an account's entries where the daemon does. `partitions` must be positive.
pub(super) fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = murmur2(key).cast_signed() & i32::MAX;
    positive % partitions.max(1)
}

/// `org.apache.kafka.common.utils.Utils.murmur2`.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    let (words, rest) = data.as_chunks::<4>();
    // Java's lengths are of 32 bits.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = SEED ^ length;
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let last = rest.iter().rev().fold(0, |last, byte| (last << 8) | u32::from(*byte));
        hash = (hash ^ last).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Why the entries read so far are no longer the beginning of what the topic holds. Nothing more is read until the owner
/// says where to begin again; each text says what happened and what follows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// The topic was deleted and created anew, or has lost entries.
    #[error("{0}")]
    Recreated(String),
    /// Entries were removed before they were read.
    #[error("{0}")]
    Overrun(String),
    /// The topic's number of partitions was changed, and the key lies in another one now.
    #[error("{0}")]
    Moved(String),
}

/// The partition's ends, as the broker tells them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    /// The oldest offset that is kept.
    pub(super) first: i64,
    /// One past the newest entry.
    pub(super) end: i64,
}

impl Ends {
    /// Whether reading can go on at `next`.
    pub(super) fn hold(self, topic: &str, next: i64) -> Result<(), Break> {
        if self.end < next {
            return Err(recreated(topic, &format!("it ends at {}, but was read up to {next}", self.end)));
        }
        if self.first > next {
            return Err(Break::Overrun(format!(
                "the journal {topic} no longer has its entries from {next} to {}: kafka removed them before they were \
                 read; raise its retention",
                self.first
            )));
        }
        Ok(())
    }
}

/// The newest entry of the partition that was read, whoever's it is: what must be there still after a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) offset: i64,
    pub(super) print: Fingerprint,
}

/// Tells one entry from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub(super) fn of(at: i64, key: Option<&[u8]>, payload: Option<&[u8]>) -> Self {
        let mut hasher = DefaultHasher::new();
        (at, key, payload).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Mark {
    /// `found`: the first entry at this offset or after it now.
    pub(super) fn hold(self, topic: &str, found: Self) -> Result<(), Break> {
        if found == self {
            return Ok(());
        }
        Err(recreated(topic, &format!("its entry {} is not the one that was read", self.offset)))
    }
}

fn recreated(topic: &str, seen: &str) -> Break {
    Break::Recreated(format!("the journal {topic} was deleted and created anew, or has lost entries: {seen}"))
}

pub(super) fn moved(topic: &str, from: i32, to: i32, partitions: i32) -> Break {
    Break::Moved(format!(
        "the journal {topic} now has {partitions} partitions, so this account's entries belong into partition {to}, not \
         {from}; every instance goes over to it; leave the number of partitions as it is"
    ))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// The figures of Kafka's own test (`UtilsTest.testMurmur2`).
    #[rstest]
    #[case::two_bytes("21", -973_932_308)]
    #[case::three_bytes("abc", 479_470_107)]
    #[case::six_bytes("foobar", -790_332_482)]
    #[case::long("a-little-bit-long-string", -985_981_536)]
    #[case::longer("a-little-bit-longer-string", -1_486_304_829)]
    #[case::longest("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971)]
    fn keys_are_hashed_as_java_does(#[case] key: &str, #[case] hash: i32) {
        assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash);
    }

    #[test]
    fn keys_are_placed_in_partitions_that_exist() {
        for partitions in 1..20 {
            for key in 0..100 {
                let placed = partition_of(format!("tenant/client-{key}").as_bytes(), partitions);
                assert!((0..partitions).contains(&placed));
            }
        }
        // 0x7fffffff & -973932308 = 1173551340.
        assert_eq!(partition_of(b"21", 7), 1_173_551_340 % 7);
    }

    #[rstest]
    #[case::grown(0, 12, 10, None)]
    #[case::nothing_new(0, 10, 10, None)]
    #[case::aged_to_where_we_are(10, 10, 10, None)]
    #[case::empty(0, 0, 0, None)]
    #[case::recreated_and_empty(0, 0, 10, Some(true))]
    #[case::lost_its_end(0, 9, 10, Some(true))]
    #[case::aged_past_us(11, 20, 10, Some(false))]
    fn ends_that_contradict_what_was_read_are_noticed(
        #[case] first: i64,
        #[case] end: i64,
        #[case] next: i64,
        #[case] recreated: Option<bool>,
    ) {
        let verdict = Ends { first, end }.hold("journal", next).err();
        let told = verdict.map(|broken| matches!(broken, Break::Recreated(_)));
        assert_eq!(told, recreated);
    }

    #[rstest]
    #[case::the_same((4, 1_000, "entry"), true)]
    #[case::other_time((4, 1_001, "entry"), false)]
    #[case::other_payload((4, 1_000, "other"), false)]
    #[case::a_later_one((5, 1_000, "entry"), false)]
    fn an_entry_that_was_read_must_still_be_there(#[case] found: (i64, i64, &str), #[case] holds: bool) {
        let mark = |(offset, at, payload): (i64, i64, &str)| Mark {
            offset,
            print: Fingerprint::of(at, Some(b"key"), Some(payload.as_bytes())),
        };
        assert_eq!(mark((4, 1_000, "entry")).hold("journal", mark(found)).is_ok(), holds);
    }
}
