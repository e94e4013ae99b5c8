//! The read window: how many records may be open at the same time, and how several accounts share it.

use crate::pipeline::{Claimant, MAX_OPEN_ALERTS};

/// How much of the window a record takes. Its alerts count where accounts share: a small message may hold very many.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    bytes: usize,
    alerts: usize,
    account: Option<u16>,
}

impl Size {
    /// `claimant`: whose share it takes, where there are several.
    pub(super) fn new(bytes: usize, claimant: Option<Claimant>) -> Self {
        let alerts = claimant.map_or(0, |claimant| claimant.alerts as usize);
        Self { bytes, alerts, account: claimant.map(|claimant| claimant.account) }
    }
}

/// Records read and not settled, by count and by bytes, against their bounds.
///
/// It closes at a bound and opens again when a quarter of both is free, so that partitions are not paused and resumed for
/// each record.
///
/// Of several accounts one that may not call would fill it and stop the reading for all. So an account takes no more than a
/// multiple of what is free: alone it gets two thirds of the window, with others less, and however many take what they may,
/// some is free for the next. What of a bound is overrun is one record for each account.
#[derive(Debug)]
pub(super) struct Window {
    most: Held,
    all: Held,
    accounts: Vec<Held>,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Held {
    records: usize,
    bytes: usize,
    alerts: usize,
}

/// What to do about the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Pause,
    Resume,
}

impl Held {
    fn take(&mut self, size: &Size) {
        self.records += 1;
        self.bytes += size.bytes;
        self.alerts += size.alerts;
    }

    fn release(&mut self, size: &Size) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size.bytes);
        self.alerts = self.alerts.saturating_sub(size.alerts);
    }

    fn dimensions(&self) -> [usize; 3] {
        [self.records, self.bytes, self.alerts]
    }
}

impl Window {
    pub(super) fn new(records: usize, bytes: usize) -> Self {
        let most = Held { records, bytes, alerts: MAX_OPEN_ALERTS };
        Self { most, all: Held::default(), accounts: Vec::new(), closed: false }
    }

    pub(super) fn take(&mut self, size: &Size) {
        self.all.take(size);
        if let Some(account) = size.account.map(usize::from) {
            if self.accounts.len() <= account {
                self.accounts.resize_with(account + 1, Held::default);
            }
            self.accounts[account].take(size);
        }
    }

    pub(super) fn release(&mut self, size: &Size) {
        self.all.release(size);
        if let Some(account) = size.account.and_then(|account| self.accounts.get_mut(usize::from(account))) {
            account.release(size);
        }
    }

    /// Whether the account's share has room for a record.
    pub(super) fn has_room(&self, claimant: Claimant) -> bool {
        // Four is what two priorities of two each come to: a high record finds room where low ones have taken theirs.
        let most = if claimant.is_high { 4 } else { 2 };
        self.shares(claimant.account).all(|(held, free)| held < most * free)
    }

    /// Whether it has so much that reading again pays, what found none: half of it.
    pub(super) fn has_much_room(&self, claimant: Claimant) -> bool {
        let half = if claimant.is_high { 2 } else { 1 };
        self.shares(claimant.account).all(|(held, free)| held < half * free)
    }

    /// What the account holds, and what is free, of each bound.
    fn shares(&self, account: u16) -> impl Iterator<Item = (usize, usize)> {
        let held = self.accounts.get(usize::from(account)).copied().unwrap_or_default().dimensions();
        let (most, all) = (self.most.dimensions(), self.all.dimensions());
        (0..held.len()).map(move |n| (held[n], most[n].saturating_sub(all[n])))
    }

    /// The change that is due, if one is.
    pub(super) fn flow(&mut self) -> Option<Flow> {
        let (all, most) = (&self.all, &self.most);
        let full = all.records >= most.records || all.bytes >= most.bytes;
        let roomy = all.records <= most.records / 4 * 3 && all.bytes <= most.bytes / 4 * 3;
        match (self.closed, full, roomy) {
            (false, true, _) => {
                self.closed = true;
                Some(Flow::Pause)
            }
            (true, _, true) => {
                self.closed = false;
                Some(Flow::Resume)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(account: u16, is_high: bool) -> Claimant {
        Claimant { account, is_high, alerts: 1 }
    }

    /// Takes as much as there is room for, and says how many records that were.
    fn fill(window: &mut Window, claimant: Claimant) -> usize {
        let mut taken = 0;
        while window.has_room(claimant) {
            window.take(&Size::new(10, Some(claimant)));
            taken += 1;
        }
        taken
    }

    #[test]
    fn it_closes_at_either_bound_and_opens_with_a_quarter_free() {
        let of = |bytes| Size::new(bytes, None);
        let mut window = Window::new(8, 1000);
        (0..7).for_each(|_| window.take(&of(10)));
        assert_eq!(window.flow(), None);
        window.take(&of(10));
        assert_eq!((window.flow(), window.flow()), (Some(Flow::Pause), None));
        window.release(&of(10));
        assert_eq!(window.flow(), None);
        window.release(&of(10));
        assert_eq!((window.flow(), window.flow()), (Some(Flow::Resume), None));
        window.take(&of(990));
        assert_eq!(window.flow(), Some(Flow::Pause));
        window.release(&of(990));
        assert_eq!(window.flow(), Some(Flow::Resume));
    }

    #[test]
    fn however_many_accounts_take_what_they_may_there_is_room_for_the_next() {
        let mut window = Window::new(1_000, 1_000_000);
        let taken: Vec<_> = (0..5).map(|account| fill(&mut window, of(account, false))).collect();
        assert_eq!(taken, [667, 222, 74, 25, 8]);
        assert_eq!(window.flow(), None, "it is not full");
        assert!(window.has_room(of(5, false)));
    }

    #[test]
    fn high_records_find_room_where_low_ones_have_taken_theirs() {
        let mut window = Window::new(1_000, 1_000_000);
        assert_eq!((fill(&mut window, of(0, false)), fill(&mut window, of(0, true))), (667, 133));
        assert!(window.has_room(of(1, false)));
    }

    #[test]
    fn bytes_and_alerts_are_shared_as_records_are() {
        let mut window = Window::new(1_000, 900);
        assert_eq!(fill(&mut window, of(0, false)), 60, "600 of 900 bytes");
        let mut window = Window::new(1_000, 1_000_000);
        let many = Claimant { account: 0, is_high: false, alerts: 50_000 };
        assert_eq!(fill(&mut window, many), 2, "of 100,000 alerts");
        assert!(!window.has_room(of(1, false)), "one message may overrun it");
    }

    #[test]
    fn there_is_much_room_again_when_half_a_share_is_free() {
        let mut window = Window::new(1_000, 1_000_000);
        let claimant = of(0, false);
        let taken = fill(&mut window, claimant);
        let mut released = 0;
        while !window.has_much_room(claimant) {
            window.release(&Size::new(10, Some(claimant)));
            released += 1;
        }
        assert_eq!((taken, released), (667, 168));
        assert!((released..taken).all(|_| {
            window.release(&Size::new(10, Some(claimant)));
            window.has_much_room(claimant)
        }));
    }
}
