//! The read window: how many records may be open at the same time.

/// Records read and not settled, by count and by bytes, against their bounds.
///
/// It closes at a bound and opens again when a quarter of both is free, so that partitions are not paused and resumed for
/// each record.
#[derive(Debug)]
pub(super) struct Window {
    most_records: usize,
    most_bytes: usize,
    records: usize,
    bytes: usize,
    closed: bool,
}

/// What to do about the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Pause,
    Resume,
}

impl Window {
    pub(super) fn new(most_records: usize, most_bytes: usize) -> Self {
        Self { most_records, most_bytes, records: 0, bytes: 0, closed: false }
    }

    pub(super) fn take(&mut self, bytes: usize) {
        self.records += 1;
        self.bytes += bytes;
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// The change that is due, if one is.
    pub(super) fn flow(&mut self) -> Option<Flow> {
        let full = self.records >= self.most_records || self.bytes >= self.most_bytes;
        let roomy = self.records <= self.most_records / 4 * 3 && self.bytes <= self.most_bytes / 4 * 3;
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

    #[test]
    fn it_closes_at_either_bound_and_opens_with_a_quarter_free() {
        let mut window = Window::new(8, 1000);
        (0..7).for_each(|_| window.take(10));
        assert_eq!(window.flow(), None);
        window.take(10);
        assert_eq!((window.flow(), window.flow()), (Some(Flow::Pause), None));
        window.release(10);
        assert_eq!(window.flow(), None);
        window.release(10);
        assert_eq!((window.flow(), window.flow()), (Some(Flow::Resume), None));
        window.take(990);
        assert_eq!(window.flow(), Some(Flow::Pause));
        window.release(990);
        assert_eq!(window.flow(), Some(Flow::Resume));
    }
}
