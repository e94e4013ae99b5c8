//! Answers that may still be good for the next alert with the same id.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    alert::{Alert, AlertId},
    outcome::Outcome,
};

/// How far the service's clock and ours may be apart when an update is held against an answer.
const CLOCK_SKEW: Duration = Duration::from_secs(30);

/// The latest answers by alert id, at most `capacity`; the oldest go first.
#[derive(Clone, Debug)]
pub struct Answers {
    reuse_for: Duration,
    capacity: usize,
    by_id: HashMap<AlertId, (u64, Outcome)>,
    /// Ids in the order of their answers. An entry whose number is not the id's latest is stale.
    order: VecDeque<(u64, AlertId)>,
    answered: u64,
}

impl Answers {
    pub fn new(reuse_for: Duration, capacity: usize) -> Self {
        Self { reuse_for, capacity, by_id: HashMap::new(), order: VecDeque::new(), answered: 0 }
    }

    /// Keeps an answer, in place of an earlier one for the same id.
    pub fn insert(&mut self, id: AlertId, outcome: Outcome) {
        if self.capacity == 0 {
            return;
        }
        self.answered += 1;
        self.order.push_back((self.answered, id.clone()));
        self.by_id.insert(id, (self.answered, outcome));
        // Repeated ids leave stale entries behind, so the order is bounded by itself.
        while self.order.len() > self.capacity {
            if let Some((number, id)) = self.order.pop_front()
                && self.by_id.get(&id).is_some_and(|(latest, _)| *latest == number)
            {
                self.by_id.remove(&id);
            }
        }
    }

    /// The answer for this alert, if it is still good: obtained after the alert's last update, or, where no update time
    /// is known, within `reuse_for`.
    pub fn fresh(&self, alert: &Alert, now: Timestamp) -> Option<&Outcome> {
        let (_, outcome) = self.by_id.get(&alert.id)?;
        let fresh = match alert.updated {
            Some(updated) => {
                outcome.retrieved_at.duration_since(updated).unsigned_abs() > CLOCK_SKEW
                    && outcome.retrieved_at > updated
            }
            None => now.duration_since(outcome.retrieved_at).unsigned_abs() <= self.reuse_for,
        };
        fresh.then_some(outcome)
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
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
        answers.insert(AlertId::parse("a").unwrap(), answer(1_000));
        assert_eq!(answers.fresh(&alert("a", updated), at(now)).is_some(), fresh);
    }

    #[test]
    fn the_oldest_answers_are_forgotten_first() {
        let mut answers = Answers::new(Duration::from_mins(15), 3);
        for (n, id) in ["a", "b", "a", "a", "c"].into_iter().enumerate() {
            answers.insert(AlertId::parse(id).unwrap(), answer(i64::try_from(n).unwrap()));
        }
        let kept = |id| answers.fresh(&alert(id, None), at(4)).map(|outcome| outcome.retrieved_at);
        assert_eq!((kept("a"), kept("b"), kept("c")), (Some(at(3)), None, Some(at(4))));
        assert!(answers.order.len() <= 3);
    }
}
