//! The replayed state of an account's limits: what is spent, what is free, when the next slot frees.
//!
//! The rule: a call takes one slot of every limit when its claim is granted, and the slot is free again one full period,
//! plus a margin for the clocks, after the call can no longer reach the service. Why that is exact, whatever the
//! alignment of the service's windows: call `k` is counted somewhere between its grant and its answer, and call `k + N`
//! can only be granted once one of the `N` calls before it is a full period past its answer. So no window of that length
//! holds `N + 1`. Neither stamping calls when they are sent nor token buckets have this property.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use super::{
    journal::{Answer, Claim, ClaimId, Entry, Reached},
    limit::Limit,
    terms::Terms,
    time::JournalTime,
};

/// Limits with more calls than this keep their slots in buckets of a thousandth of the period.
const EXACT_UP_TO: u32 = 4096;

/// What the journal's entry meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// The claim may become a call.
    Granted(ClaimId),
    /// It may not; nothing was taken.
    Refused(ClaimId),
    /// Noted.
    Noted,
}

/// When a claim could be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Now,
    /// A slot frees, or a freeze ends, at this time.
    At(JournalTime),
    /// Only once a call on the wire is answered or given up.
    WhenAnswered,
}

/// The budget of one account. A function of its terms and the entries applied so far, and of nothing else.
#[derive(Clone, Debug)]
pub struct Budget {
    terms: Terms,
    windows: Vec<Window>,
    /// Granted and not yet answered, with the time at which each is given up.
    open: HashMap<ClaimId, JournalTime>,
    /// No open claim is given up before this.
    next_lapse: Option<JournalTime>,
    frozen_until: JournalTime,
    now: JournalTime,
}

/// The slots of one limit that are taken by calls that are over.
#[derive(Clone, Debug)]
struct Window {
    limit: Limit,
    usable: (u32, u32),
    /// How long after its end a call keeps its slot.
    hold: Duration,
    /// Times are rounded up to multiples of this, so that memory does not grow with the limit.
    bucket: Duration,
    /// Slots by the time at which they are free again.
    freeing: BTreeMap<JournalTime, u32>,
    taken: u32,
}

impl Budget {
    /// A budget of which nothing is spent.
    pub fn new(terms: Terms) -> Self {
        let windows = terms.limits.iter().map(|limit| Window::new(*limit, terms.usable(limit))).collect();
        Self {
            terms,
            windows,
            open: HashMap::new(),
            next_lapse: None,
            frozen_until: JournalTime::default(),
            now: JournalTime::default(),
        }
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Applies the next entry. Times may not go back: an earlier one counts as the latest seen.
    pub fn apply(&mut self, at: JournalTime, entry: &Entry) -> Ruling {
        self.advance(at);
        match entry {
            Entry::Claim(claim) => self.claim(claim),
            Entry::Answer(answer) => {
                self.answer(answer);
                Ruling::Noted
            }
            Entry::Freeze(freeze) => {
                self.frozen_until = self.frozen_until.max(freeze.until);
                Ruling::Noted
            }
        }
    }

    /// Lets time pass: frees what is due and gives up what was never answered.
    pub fn advance(&mut self, at: JournalTime) {
        self.now = self.now.max(at);
        if self.next_lapse.is_some_and(|lapse| lapse <= self.now) {
            let now = self.now;
            let lapsed: Vec<_> = self.open.extract_if(|_, lapse| *lapse <= now).map(|(_, lapse)| lapse).collect();
            for lapse in lapsed {
                self.hold_from(lapse);
            }
            self.next_lapse = self.open.values().min().copied();
        }
        for window in &mut self.windows {
            window.free_until(self.now);
        }
    }

    /// When a claim could be granted, as of the last time applied; `reserved` as in [`Claim`].
    pub fn room(&self, reserved: bool) -> Room {
        if self.frozen_until > self.now {
            return Room::At(self.frozen_until);
        }
        if self.open.len() >= self.in_flight_bound(reserved) {
            return Room::WhenAnswered;
        }
        let open = self.open_slots();
        let mut earliest = self.now;
        for window in &self.windows {
            match window.next_free(open, reserved) {
                Some(free) => earliest = earliest.max(free),
                None => return Room::WhenAnswered,
            }
        }
        if earliest > self.now { Room::At(earliest) } else { Room::Now }
    }

    /// Calls granted and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// Until when the service asked for a pause, if that is not over.
    pub fn frozen_until(&self) -> Option<JournalTime> {
        (self.frozen_until > self.now).then_some(self.frozen_until)
    }

    /// When the limit with this period has room again for a call, were there no other limit.
    ///
    /// `None` where no limit has this period, or where it has room now.
    pub fn room_in_window(&self, per: Duration) -> Option<JournalTime> {
        let window = self.windows.iter().find(|window| window.limit.per == per)?;
        window.next_free(self.open_slots(), true).filter(|free| *free > self.now)
    }

    /// For each limit: the limit, slots taken, and slots that a High alert could still take.
    pub fn windows(&self) -> impl Iterator<Item = (Limit, u32, u32)> {
        self.windows.iter().map(|window| {
            let used = window.taken + self.open_slots();
            (window.limit, used, window.usable.0.saturating_sub(used))
        })
    }

    /// Points in time that are remembered, all limits together: what the budget's memory grows with.
    pub fn remembered(&self) -> usize {
        self.open.len() + self.windows.iter().map(|window| window.freeing.len()).sum::<usize>()
    }

    /// How long it takes to answer `waiting` lookups at the rate the limits allow.
    pub fn time_for(&self, waiting: usize) -> Duration {
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let needed = |window: &Window| {
            let used = window.taken + self.open_slots();
            let beyond = waiting.saturating_sub(window.usable.1.saturating_sub(used));
            window.hold.mul_f64(f64::from(beyond) / f64::from(window.usable.1.max(1)))
        };
        self.windows.iter().map(needed).max().unwrap_or_default()
    }

    fn claim(&mut self, claim: &Claim) -> Ruling {
        if self.room(claim.reserved) != Room::Now || self.open.contains_key(&claim.id) {
            return Ruling::Refused(claim.id);
        }
        let lapse = self.now + self.terms.lapse_after();
        self.open.insert(claim.id, lapse);
        self.next_lapse = Some(self.next_lapse.map_or(lapse, |next| next.min(lapse)));
        Ruling::Granted(claim.id)
    }

    fn answer(&mut self, answer: &Answer) {
        let lapse = self.open.remove(&answer.claim);
        match (answer.reached, lapse) {
            // Also for a claim that was given up already: it was counted after all, and now at the latest.
            (Reached::Complete, _) => self.hold_from(self.now),
            (Reached::Unknown, Some(lapse)) => self.hold_from(lapse),
            (Reached::Unknown, None) | (Reached::Never | Reached::Unused, _) => {}
        }
    }

    fn hold_from(&mut self, over: JournalTime) {
        for window in &mut self.windows {
            window.hold_from(over);
        }
    }

    fn open_slots(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    fn in_flight_bound(&self, reserved: bool) -> usize {
        let bound = if reserved { self.terms.effective_in_flight() } else { self.terms.minor_in_flight() };
        bound as usize
    }
}

impl Window {
    fn new(limit: Limit, usable: (u32, u32)) -> Self {
        let bucket = if limit.calls.get() > EXACT_UP_TO { limit.per / 1000 } else { Duration::ZERO };
        let hold = limit.per + limit.clock_margin();
        Self { limit, usable, hold, bucket, freeing: BTreeMap::new(), taken: 0 }
    }

    fn hold_from(&mut self, over: JournalTime) {
        *self.freeing.entry(self.rounded_up(over + self.hold)).or_default() += 1;
        self.taken += 1;
    }

    fn free_until(&mut self, now: JournalTime) {
        while let Some(first) = self.freeing.first_entry() {
            if *first.key() > now {
                break;
            }
            self.taken -= first.remove();
        }
    }

    /// When one more slot can be taken while `open` calls hold one each; `None` if only an answer can free one.
    fn next_free(&self, open: u32, reserved: bool) -> Option<JournalTime> {
        let usable = if reserved { self.usable.0 } else { self.usable.1 };
        let mut used = u64::from(self.taken) + u64::from(open);
        if used < u64::from(usable) {
            return Some(JournalTime::default());
        }
        for (free, slots) in &self.freeing {
            used -= u64::from(*slots);
            if used < u64::from(usable) {
                return Some(*free);
            }
        }
        None
    }

    fn rounded_up(&self, time: JournalTime) -> JournalTime {
        if self.bucket.is_zero() {
            return time;
        }
        let buckets = time.since_origin().as_nanos().div_ceil(self.bucket.as_nanos());
        let nanos = buckets.saturating_mul(self.bucket.as_nanos());
        JournalTime::from_origin(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }
}
