//! Answers that may still be good for the next alert with the same id.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    alert::{Alert, AlertId},
    outcome::{Outcome, Status},
    related_ips::RelatedIps,
    service_clock::SKEW,
};

/// The latest answers by alert id, at most `capacity`; the oldest go first.
///
/// There may be a hundred thousand, so each is kept packed. Two ids may share a hash: then the later one takes the other's
/// place, as if that had been forgotten.
#[derive(Clone, Debug)]
pub struct Answers {
    reuse_for: Duration,
    capacity: usize,
    hasher: RandomState,
    /// The number of an id's latest answer, by the id's hash.
    latest: HashMap<u64, u64>,
    /// In the order of their arrival. One that is not the id's latest is stale.
    kept: VecDeque<Packed>,
    /// The number of the first of them.
    first: u64,
}

impl Answers {
    pub fn new(reuse_for: Duration, capacity: usize) -> Self {
        let (hasher, latest, kept) = (RandomState::new(), HashMap::new(), VecDeque::new());
        Self { reuse_for, capacity, hasher, latest, kept, first: 0 }
    }

    /// Keeps an answer, in place of an earlier one for the same id.
    pub fn insert(&mut self, id: &AlertId, outcome: &Outcome) {
        if self.capacity == 0 {
            return;
        }
        let hash = self.hasher.hash_one(id.as_str().as_bytes());
        self.latest.insert(hash, self.first + self.kept.len() as u64);
        self.kept.push_back(Packed::new(id, outcome));
        // Repeated ids leave stale answers behind, so the order is bounded by itself.
        while self.kept.len() > self.capacity {
            if let Some(oldest) = self.kept.pop_front()
                && let hash = self.hasher.hash_one(oldest.id())
                && self.latest.get(&hash) == Some(&self.first)
            {
                self.latest.remove(&hash);
            }
            self.first += 1;
        }
    }

    /// The answer for this alert, if it is still good: obtained after the alert's last update, or, where no update time
    /// is known, within `reuse_for`. `now` is of the [service's clock](super::service_clock).
    pub fn fresh(&self, alert: &Alert, now: Timestamp) -> Option<Outcome> {
        let id = alert.id.as_str().as_bytes();
        let number = self.latest.get(&self.hasher.hash_one(id))?;
        let packed = self.kept.get(usize::try_from(number - self.first).ok()?).filter(|packed| packed.id() == id)?;
        let outcome = packed.outcome()?;
        let fresh = match alert.updated {
            Some(updated) => {
                outcome.retrieved_at.duration_since(updated).unsigned_abs() > SKEW && outcome.retrieved_at > updated
            }
            None => now.duration_since(outcome.retrieved_at).unsigned_abs() <= self.reuse_for,
        };
        fresh.then_some(outcome)
    }

    pub fn len(&self) -> usize {
        self.latest.len()
    }

    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }
}

/// An id and its outcome in one piece, without what was wrong in the answer: that was told when it came.
///
/// One byte for the id's length, the id, one for the status, eight and four for the time, and for each address one that
/// says how many follow.
#[derive(Clone, Debug)]
struct Packed(Box<[u8]>);

impl Packed {
    fn new(id: &AlertId, outcome: &Outcome) -> Self {
        let id = id.as_str().as_bytes();
        // An id has at most 128 bytes.
        let mut bytes = vec![u8::try_from(id.len()).unwrap_or(u8::MAX)];
        bytes.extend_from_slice(id);
        bytes.push(outcome.status as u8);
        bytes.extend(outcome.retrieved_at.as_second().to_le_bytes());
        bytes.extend(outcome.retrieved_at.subsec_nanosecond().to_le_bytes());
        for ip in outcome.ips.as_slice() {
            match ip {
                IpAddr::V4(ip) => bytes.extend([4].into_iter().chain(ip.octets())),
                IpAddr::V6(ip) => bytes.extend([16].into_iter().chain(ip.octets())),
            }
        }
        Self(bytes.into())
    }

    fn id(&self) -> &[u8] {
        self.parts().map_or(&[], |(id, _)| id)
    }

    /// The id, and what comes after it.
    fn parts(&self) -> Option<(&[u8], &[u8])> {
        let (length, rest) = self.0.split_first()?;
        rest.split_at_checked(usize::from(*length))
    }

    /// `None` never comes of what [`new`](Self::new) made.
    fn outcome(&self) -> Option<Outcome> {
        let (status, rest) = self.parts()?.1.split_first()?;
        let (seconds, rest) = rest.split_first_chunk()?;
        let (nanoseconds, mut rest) = rest.split_first_chunk()?;
        let mut ips = Vec::new();
        while let Some((length, ip)) = rest.split_first() {
            let (ip, after) = ip.split_at_checked(usize::from(*length))?;
            rest = after;
            ips.push(match length {
                4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
            });
        }
        let status = *Status::ALL.get(usize::from(*status))?;
        let retrieved_at = Timestamp::new(i64::from_le_bytes(*seconds), i32::from_le_bytes(*nanoseconds)).ok()?;
        Some(Outcome { status, ips: RelatedIps::from_addresses(ips), retrieved_at })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::{alert::Severity, outcome::Status, related_ips::RelatedIps};

    fn at(second: i64) -> Timestamp {
        Timestamp::constant(1_800_000_000 + second, 0)
    }

    fn answer(second: i64) -> Outcome {
        Outcome { status: Status::Empty, ips: RelatedIps::default(), retrieved_at: at(second) }
    }

    fn alert(id: &str, updated: Option<i64>) -> Alert {
        let id = AlertId::parse(id).unwrap();
        Alert { id, tenant: None, severity: Severity::Low, updated: updated.map(at), created: None }
    }

    #[rstest]
    #[case::updated_before_the_answer(Some(900), 10_000, true)]
    #[case::updated_after_the_answer(Some(1_001), 1_002, false)]
    #[case::within_what_clocks_may_differ(Some(990), 1_002, false)]
    #[case::no_update_time_and_young(None, 1_900, true)]
    #[case::no_update_time_and_old(None, 1_901, false)]
    fn an_answer_is_fresh(#[case] updated: Option<i64>, #[case] now: i64, #[case] fresh: bool) {
        let mut answers = Answers::new(Duration::from_mins(15), 10);
        answers.insert(&AlertId::parse("a").unwrap(), &answer(1_000));
        assert_eq!(answers.fresh(&alert("a", updated), at(now)).is_some(), fresh);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_first() {
        let mut answers = Answers::new(Duration::from_mins(15), 3);
        for (n, id) in ["a", "b", "a", "a", "c"].into_iter().enumerate() {
            answers.insert(&AlertId::parse(id).unwrap(), &answer(i64::try_from(n).unwrap()));
        }
        let kept = |id| answers.fresh(&alert(id, None), at(4)).map(|outcome| outcome.retrieved_at);
        assert_eq!((kept("a"), kept("b"), kept("c")), (Some(at(3)), None, Some(at(4))));
        assert!((answers.kept.len(), answers.len()) == (3, 2));
    }

    #[rstest]
    #[case::no_address("da637551227677560813_-961444813", Status::NotFound, &[])]
    #[case::both_kinds("a", Status::Found, &["::1", "10.0.0.1", "2001:db8::ffff", "255.255.255.255"])]
    fn an_answer_comes_back_as_it_was(#[case] id: &str, #[case] status: Status, #[case] ips: &[&str]) {
        let retrieved_at = Timestamp::new(-5, -999_999_999).unwrap();
        let outcome = Outcome { status, ips: RelatedIps::from_texts(ips.iter().copied()), retrieved_at };
        let packed = Packed::new(&AlertId::parse(id).unwrap(), &outcome);
        assert_eq!((packed.id(), packed.outcome()), (id.as_bytes(), Some(outcome)));
    }

    #[test]
    fn an_id_with_the_hash_of_another_has_no_answer() {
        let mut answers = Answers::new(Duration::from_mins(15), 3);
        answers.insert(&AlertId::parse("a").unwrap(), &answer(0));
        let hash = answers.hasher.hash_one(b"b".as_slice());
        answers.latest.insert(hash, 0);
        assert_eq!(answers.fresh(&alert("b", None), at(0)), None);
    }
}
