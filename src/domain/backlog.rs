//! Which lookup gets the next permit.
//!
//! High alerts go first, the oldest of them before the others; the rest go by deadline, so that nobody waits for ever.
//! While both wait, one grant in ten goes to the rest. What was sent back from the dead letters goes when nothing else waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{
    alert::{AlertId, Severity},
    time::BootTime,
};

/// High grants in a row after which a waiting lookup of another severity goes first.
const HIGHS_IN_A_ROW: u32 = 9;

/// How long alerts of each severity may wait before they go ahead of younger, more severe ones (High aside).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience([Duration; Severity::ALL.len()]);

impl Patience {
    /// The patience of each severity.
    pub fn new(of: impl Fn(Severity) -> Duration) -> Self {
        Self(Severity::ALL.map(of))
    }

    pub const fn of(&self, severity: Severity) -> Duration {
        self.0[severity as usize]
    }
}

/// What a lookup may have of what is scarce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Its turn, as that of an alert of this severity.
    Alert(Severity),
    /// What nobody else wants: it was sent back from the dead letters.
    Spare,
}

/// How many ranks there are.
const RANKS: usize = Severity::ALL.len() + 1;

impl Rank {
    /// As which its calls are counted.
    pub const fn severity(self) -> Severity {
        match self {
            Self::Alert(severity) => severity,
            Self::Spare => Severity::Informational,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Alert(severity) => severity as usize,
            Self::Spare => RANKS - 1,
        }
    }
}

impl From<Severity> for Rank {
    fn from(severity: Severity) -> Self {
        Self::Alert(severity)
    }
}

/// Where a lookup stands in the backlog. Whoever owns the lookup keeps it, to raise it or take it out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    rank: Rank,
    /// The Kafka timestamp of the oldest record that asks.
    since: Timestamp,
    /// Arrival order among equals.
    ticket: u64,
    id: AlertId,
}

impl Place {
    pub fn id(&self) -> &AlertId {
        &self.id
    }

    pub fn rank(&self) -> Rank {
        self.rank
    }

    pub fn severity(&self) -> Severity {
        self.rank.severity()
    }

    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// This place with the more urgent rank and the earlier time of the two.
    pub fn raised(&self, rank: impl Into<Rank>, since: Timestamp) -> Self {
        Self {
            rank: self.rank.min(rank.into()),
            since: self.since.min(since),
            ticket: self.ticket,
            id: self.id.clone(),
        }
    }
}

/// Lookups that wait, for a permit or (parked) for a time. One entry per alert id: the owner sees to that.
#[derive(Clone, Debug)]
pub struct Backlog {
    patience: Patience,
    ready: [BTreeSet<Place>; RANKS],
    parked: BTreeMap<(BootTime, u64), (Parked, Place)>,
    highs_in_a_row: u32,
    tickets: u64,
}

/// What a parked lookup waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parked {
    /// The next re-ask after a 404.
    Reask,
    /// The end of its backoff.
    Retry,
    /// The answer that another instance will get.
    Elsewhere,
}

impl Backlog {
    pub fn new(patience: Patience) -> Self {
        Self { patience, ready: Default::default(), parked: BTreeMap::new(), highs_in_a_row: 0, tickets: 0 }
    }

    /// A new place for a lookup, at the end of its equals. It is in the backlog once it is [queued](Self::queue) or
    /// [parked](Self::park).
    pub fn place(&mut self, id: AlertId, rank: impl Into<Rank>, since: Timestamp) -> Place {
        self.tickets += 1;
        Place { rank: rank.into(), since, ticket: self.tickets, id }
    }

    /// Lets the lookup wait for a permit.
    pub fn queue(&mut self, place: Place) {
        self.ready[place.rank.index()].insert(place);
    }

    /// Lets the lookup wait until `until` first.
    pub fn park(&mut self, place: Place, until: BootTime, parked: Parked) {
        self.parked.insert((until, place.ticket), (parked, place));
    }

    /// Raises a lookup, queued or parked, to what one more record asks: never to less. Returns where it stands now.
    pub fn raise(&mut self, place: &Place, rank: impl Into<Rank>, since: Timestamp) -> Place {
        let raised = place.raised(rank, since);
        if self.ready[place.rank.index()].remove(place) {
            self.queue(raised.clone());
        } else if let Some((_, parked)) = self.parked.values_mut().find(|(_, parked)| parked.ticket == place.ticket) {
            *parked = raised.clone();
        }
        raised
    }

    /// Takes a lookup out that nobody waits for any more.
    pub fn remove(&mut self, place: &Place) {
        if !self.ready[place.rank.index()].remove(place) {
            self.parked.retain(|_, (_, parked)| parked.ticket != place.ticket);
        }
    }

    /// Queues the parked lookups whose time has come.
    pub fn release_due(&mut self, now: BootTime) {
        while let Some(first) = self.parked.first_entry() {
            if first.key().0 > now {
                break;
            }
            let (_, place) = first.remove();
            self.queue(place);
        }
    }

    /// Queues every lookup that waits out a backoff: the service answers again.
    pub fn release_retries(&mut self) {
        let retries: Vec<_> = self.parked.extract_if(.., |_, (parked, _)| *parked == Parked::Retry).collect();
        for (_, (_, place)) in retries {
            self.queue(place);
        }
    }

    /// Whether a lookup waits for a time of its own: the end of its backoff, or its next re-ask.
    pub fn waits_for_itself(&self, place: &Place) -> bool {
        let is_it = |(parked, other): &(Parked, Place)| *parked != Parked::Elsewhere && other.ticket == place.ticket;
        self.parked.values().any(is_it)
    }

    /// Queues a lookup that waited for another instance's answer.
    pub fn release_elsewhere(&mut self, place: &Place) {
        let is_it = |(parked, other): &(Parked, Place)| *parked == Parked::Elsewhere && other.ticket == place.ticket;
        let at = self.parked.iter().find(|(_, value)| is_it(value)).map(|(at, _)| *at);
        if let Some((_, place)) = at.and_then(|at| self.parked.remove(&at)) {
            self.queue(place);
        }
    }

    /// When the next parked lookup is due.
    pub fn next_due(&self) -> Option<BootTime> {
        self.parked.first_key_value().map(|((due, _), _)| *due)
    }

    /// Whether the next grant is due to a lookup below High, because it is the tenth while both wait.
    pub fn others_are_due(&self) -> bool {
        self.highs_in_a_row >= HIGHS_IN_A_ROW
    }

    /// The rank of the lookup that should get the next permit, given which may be granted one now.
    pub fn next(&self, may_go: impl Fn(Rank) -> bool) -> Option<Rank> {
        let first = |rank: Rank| self.ready[rank.index()].first().filter(|_| may_go(rank));
        let high = first(Severity::High.into());
        let other = Severity::ALL[1..]
            .iter()
            .filter_map(|severity| first((*severity).into()))
            .min_by_key(|place| (self.deadline(place), place.rank, place.ticket));
        match (high, other) {
            (Some(_), Some(other)) if self.others_are_due() => Some(other.rank),
            (Some(high), _) => Some(high.rank),
            (None, Some(other)) => Some(other.rank),
            (None, None) if self.only_spare_is_ready() => first(Rank::Spare).map(|place| place.rank),
            (None, None) => None,
        }
    }

    /// Takes out the first lookup of a rank that [`next`](Self::next) named.
    pub fn take(&mut self, rank: Rank) -> Option<Place> {
        let place = self.ready[rank.index()].pop_first()?;
        self.count_grant(rank.severity());
        Some(place)
    }

    /// A call was granted, here or to another instance: the tenth for the others is one of all grants.
    pub fn count_grant(&mut self, severity: Severity) {
        let others_wait = self.ready[1..RANKS - 1].iter().any(|queue| !queue.is_empty());
        self.highs_in_a_row = if severity == Severity::High && others_wait { self.highs_in_a_row + 1 } else { 0 };
    }

    /// Whether a lookup of this rank is ready to go.
    pub fn is_ready(&self, rank: impl Into<Rank>) -> bool {
        !self.ready[rank.into().index()].is_empty()
    }

    /// Whether any lookup is ready to go.
    pub fn is_any_ready(&self) -> bool {
        self.ready.iter().any(|queue| !queue.is_empty())
    }

    /// Whether any below High is ready to go.
    pub fn is_any_other_ready(&self) -> bool {
        self.ready[1..].iter().any(|queue| !queue.is_empty())
    }

    /// Whether those that are ready to go were all sent back from the dead letters.
    pub fn only_spare_is_ready(&self) -> bool {
        self.is_ready(Rank::Spare) && self.ready[..RANKS - 1].iter().all(BTreeSet::is_empty)
    }

    /// Lookups that wait, of one rank, and since when the oldest of them does.
    pub fn waiting(&self, rank: impl Into<Rank>) -> (usize, Option<Timestamp>) {
        let rank = rank.into();
        let ready = &self.ready[rank.index()];
        let parked = self.parked.values().map(|(_, place)| place).filter(|place| place.rank == rank);
        let (parked, oldest_parked) = parked.fold((0, None), |(n, oldest): (usize, Option<Timestamp>), place| {
            (n + 1, Some(oldest.map_or(place.since, |oldest| oldest.min(place.since))))
        });
        let oldest_ready = ready.first().map(|place| place.since);
        (ready.len() + parked, oldest_ready.into_iter().chain(oldest_parked).min())
    }

    /// Parked lookups by what they wait for.
    pub fn parked(&self, what: Parked) -> usize {
        self.parked.values().filter(|(parked, _)| *parked == what).count()
    }

    /// All lookups that wait.
    pub fn len(&self) -> usize {
        self.ready.iter().map(BTreeSet::len).sum::<usize>() + self.parked.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn deadline(&self, place: &Place) -> Timestamp {
        place.since.saturating_add(self.patience.of(place.severity())).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patience() -> Patience {
        Patience::new(|severity| match severity {
            Severity::High => Duration::ZERO,
            Severity::Medium | Severity::Unspecified => Duration::from_mins(5),
            Severity::Low => Duration::from_mins(30),
            Severity::Informational => Duration::from_hours(1),
        })
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::constant(1_800_000_000 + second, 0)
    }

    fn queue(backlog: &mut Backlog, name: &str, severity: Severity, since: i64) -> Place {
        let place = backlog.place(AlertId::parse(name).unwrap(), severity, at(since));
        backlog.queue(place.clone());
        place
    }

    fn drain(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| {
            let rank = backlog.next(|_| true)?;
            backlog.take(rank)
        })
        .map(|place| place.id.to_string())
        .collect()
    }

    #[test]
    fn high_goes_first_and_the_others_by_deadline() {
        let mut backlog = Backlog::new(patience());
        queue(&mut backlog, "low-old", Severity::Low, 0);
        queue(&mut backlog, "medium-late", Severity::Medium, 1_600);
        queue(&mut backlog, "medium-early", Severity::Medium, 1_400);
        queue(&mut backlog, "info", Severity::Informational, 0);
        queue(&mut backlog, "high-young", Severity::High, 2_000);
        queue(&mut backlog, "high-old", Severity::High, 1_999);
        // low-old is due at 1800, medium-early at 1700, medium-late at 1900, info at 3600
        assert_eq!(drain(&mut backlog), ["high-old", "high-young", "medium-early", "low-old", "medium-late", "info"]);
    }

    #[test]
    fn a_tenth_of_the_grants_goes_to_the_others() {
        let mut backlog = Backlog::new(patience());
        for n in 0..100 {
            queue(&mut backlog, &format!("h{n}"), Severity::High, n);
            queue(&mut backlog, &format!("l{n}"), Severity::Low, n);
        }
        let first: Vec<_> = drain(&mut backlog).into_iter().take(100).collect();
        assert_eq!(first.iter().filter(|id| id.starts_with('l')).count(), 10);
        assert_eq!(first[9], "l0");
    }

    #[test]
    fn what_was_sent_back_goes_when_nothing_else_waits_whether_or_not_that_may_go_now() {
        let mut backlog = Backlog::new(patience());
        let spare = backlog.place(AlertId::parse("spare").unwrap(), Rank::Spare, at(0));
        backlog.queue(spare.clone());
        queue(&mut backlog, "info", Severity::Informational, 1_000_000);
        assert_eq!(backlog.next(|rank| rank == Rank::Spare), None);
        assert_eq!(drain(&mut backlog), ["info", "spare"]);
        backlog.queue(spare.clone());
        // Whoever else asks the same needs not wait like this.
        assert_eq!(backlog.raise(&spare, Severity::Low, at(7)).rank, Rank::Alert(Severity::Low));
        assert_eq!(backlog.next(|_| true), Some(Rank::Alert(Severity::Low)));
    }

    #[test]
    fn a_duplicate_can_only_raise() {
        let mut backlog = Backlog::new(patience());
        let place = queue(&mut backlog, "a", Severity::Low, 100);
        let place = backlog.raise(&place, Severity::Informational, at(200));
        assert_eq!((place.severity(), place.since), (Severity::Low, at(100)));
        let place = backlog.raise(&place, Severity::High, at(50));
        assert_eq!((place.severity(), place.since), (Severity::High, at(50)));
        assert_eq!(backlog.len(), 1);
        assert_eq!(backlog.take(Severity::High.into()), Some(place));
    }

    #[test]
    fn parked_lookups_come_back_when_due() {
        let mut backlog = Backlog::new(patience());
        let due = BootTime::from_origin(Duration::from_mins(1));
        for (name, parked) in [("reask", Parked::Reask), ("retry", Parked::Retry)] {
            let place = backlog.place(AlertId::parse(name).unwrap(), Severity::Low, at(0));
            backlog.park(place, due, parked);
        }
        assert_eq!((backlog.len(), backlog.next(|_| true), backlog.next_due()), (2, None, Some(due)));
        backlog.release_retries();
        assert_eq!(drain(&mut backlog), ["retry"]);
        backlog.release_due(due);
        assert_eq!(drain(&mut backlog), ["reask"]);
    }

    proptest! {
        /// Whatever is queued comes out once, and among the others never one whose deadline is later than one left behind.
        #[test]
        fn others_leave_in_deadline_order(entries in proptest::collection::vec((1..5_usize, 0..7_200_i64), 0..60)) {
            let mut backlog = Backlog::new(patience());
            for (n, (severity, since)) in entries.iter().enumerate() {
                queue(&mut backlog, &format!("a{n}"), Severity::ALL[*severity], *since);
            }
            let mut left = Vec::new();
            while let Some(rank) = backlog.next(|_| true) {
                let place = backlog.take(rank).unwrap();
                left.push(place.since.saturating_add(patience().of(place.severity())).unwrap());
            }
            prop_assert_eq!(left.len(), entries.len());
            prop_assert!(left.is_sorted());
        }
    }
}
