//! The reader's thread: finds the place to begin, hands entries over, and sees to it that after a gap the log is still the
//! one that was read.

use std::{collections::VecDeque, convert::Infallible, sync::Arc};

use rdkafka::{
    Timestamp,
    error::KafkaError,
    message::{BorrowedMessage, Message},
};
use tokio::sync::{Notify, mpsc, watch as latest};

use super::{
    Break, LogEntry, LogEvent, ReadingFrom, Start,
    link::{Link, Unanswered, is_of_partition, stamp},
    place::{self, Ends, Fingerprint, Mark},
    writer::Partition,
};

/// Idle polls between two tries in a gap: 1 s. Counted, not measured: nothing here depends on the exact time.
const RETRY_POLLS: u32 = 20;

/// Tries in a gap, one after another, after which they go on with another client: some 15 s where nobody answers.
const TRIES_OF_A_CLIENT: u32 = 3;

/// Idle polls, in all, after which it is looked whether the log is still the same: 10 s of waiting.
const LOOK_POLLS: u32 = 200;

pub(super) struct Reader {
    link: Link,
    /// Where the owner wants reading to begin; closed when the log is dropped.
    asked: latest::Receiver<Start>,
    /// For the writer.
    partition: Partition,
    events: mpsc::Sender<LogEvent>,
    /// For whoever judges the settings.
    connected: Arc<Notify>,
    /// The trouble that the owner was told, and that holds.
    told: Option<String>,
    /// Tries in this gap.
    tries: u32,
}

/// Why reading can't go on as it does.
enum Interruption {
    /// The log was dropped, or nobody listens.
    Stop,
    /// The owner wants to begin elsewhere.
    Restart,
    /// It is tried again after a while.
    Gap(String),
    Broken(Break),
}

use Interruption::{Broken, Gap, Restart, Stop};

impl From<Unanswered> for Interruption {
    fn from(Unanswered(words): Unanswered) -> Self {
        Gap(words)
    }
}

impl From<Break> for Interruption {
    fn from(broken: Break) -> Self {
        Broken(broken)
    }
}

/// How far a partition has been read.
struct Progress {
    partition: i32,
    /// The offset that comes next.
    next: i64,
    /// The newest entry read, whoever's it is.
    last: Option<Mark>,
    /// The newest entry when the log was last seen to be still the same; before that the first one read.
    witness: Option<Mark>,
    /// What must be met once more, in this order, before anything else counts.
    unverified: VecDeque<Mark>,
    /// Where the log ended when reading was taken up; `None` once that is reached.
    goal: Option<i64>,
}

impl Reader {
    pub(super) fn new(
        link: Link,
        asked: latest::Receiver<Start>,
        partition: Partition,
        events: mpsc::Sender<LogEvent>,
        connected: Arc<Notify>,
    ) -> Self {
        Self { link, asked, partition, events, connected, told: None, tries: 0 }
    }

    pub(super) fn run(mut self) {
        loop {
            let start = *self.asked.borrow_and_update();
            let Err(interruption) = self.read(start);
            let goes_on = match interruption {
                // A gap is bridged where it is met.
                Restart | Gap(_) => true,
                Broken(broken) => {
                    self.told = None;
                    self.tell(LogEvent::Broken(broken)).is_ok() && self.restart_comes()
                }
                Stop => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Reads from `start` on, across gaps.
    fn read(&mut self, start: Start) -> Result<Infallible, Interruption> {
        let mut progress = loop {
            match self.begin(start) {
                Err(Gap(words)) => self.pause(words)?,
                other => break other?,
            }
        };
        loop {
            let Err(interruption) = self.connect(&mut progress).and_then(|()| self.follow(&mut progress));
            match interruption {
                Gap(words) => self.pause(words)?,
                other => return Err(other),
            }
        }
    }

    /// Finds where to begin, and says so.
    fn begin(&mut self, start: Start) -> Result<Progress, Interruption> {
        let partition = self.link.placed()?.partition;
        let ends = self.link.ends(partition)?;
        self.link.relieve();
        let (offset, found) = match start {
            Start::Beginning => (ends.first, true),
            Start::Offset(offset) => {
                ends.hold(self.link.topic(), offset)?;
                (offset, true)
            }
            Start::Since(time) => (self.link.offset_at(partition, time)?.unwrap_or(ends.end), true),
            Start::Checkpoint(wanted) => {
                let newest = self.link.search(partition, ends, wanted)?;
                (newest.unwrap_or(ends.first), newest.is_some())
            }
        };
        self.tell(LogEvent::Reading(ReadingFrom { offset, end: ends.end, first: ends.first, found }))?;
        Ok(Progress { partition, next: offset, last: None, witness: None, unverified: VecDeque::new(), goal: None })
    }

    /// Begins to fetch, first or after a gap.
    fn connect(&mut self, progress: &mut Progress) -> Result<(), Interruption> {
        progress.goal = Some(self.prove(progress)?.end);
        self.link.relieve();
        self.partition.set(progress.partition);
        self.connected.notify_one();
        Ok(())
    }

    /// Fetches on, but from an entry that was read a while ago: it must be there still, and the last one too. librdkafka
    /// reads on where it was in a topic that was created anew, if that happened quickly and the new one is longer, and tells
    /// nobody.
    fn prove(&mut self, progress: &mut Progress) -> Result<Ends, Interruption> {
        let ends = self.look(progress)?;
        let marks = [progress.witness, progress.last].into_iter().flatten();
        // An entry that was removed for its age can't be compared.
        progress.unverified = marks.filter(|mark| mark.offset >= ends.first).collect();
        progress.unverified.make_contiguous().sort_by_key(|mark| mark.offset);
        let from = progress.unverified.front().map_or(progress.next, |mark| mark.offset);
        self.link.fetch_from(progress.partition, from)?;
        Ok(ends)
    }

    fn follow(&mut self, progress: &mut Progress) -> Result<Infallible, Interruption> {
        let mut idle = 0;
        loop {
            self.obey()?;
            if let Some(words) = self.link.trouble() {
                return Err(Gap(words.to_owned()));
            }
            match self.link.poll() {
                Some(Ok(message)) => {
                    let mark = mark(&message);
                    let entry = self.link.is_ours(&message).then(|| entry(&message));
                    drop(message);
                    self.working()?;
                    self.advance(progress, mark, entry)?;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => self.meet_end(progress)?,
                Some(Err(error)) => self.heed(progress, &error)?,
                None => idle += 1,
            }
            if idle >= LOOK_POLLS {
                idle = 0;
                if !progress.unverified.is_empty() {
                    // Asked for since the last look, there by what the brokers say, and not given: after a topic was created
                    // anew librdkafka was seen to fetch nothing of it.
                    self.link.renew();
                }
                let ends = self.prove(progress)?;
                // It may have become shorter since.
                progress.goal = progress.goal.map(|_| ends.end);
            }
        }
    }

    /// Hands an entry over, unless it was before.
    fn advance(&self, progress: &mut Progress, mark: Mark, entry: Option<LogEntry>) -> Result<(), Interruption> {
        while let Some(known) = progress.unverified.front().copied().filter(|known| known.offset <= mark.offset) {
            known.hold(self.link.topic(), mark)?;
            progress.unverified.pop_front();
            if progress.unverified.is_empty() {
                progress.witness = progress.last;
            }
        }
        if mark.offset >= progress.next {
            progress.next = mark.offset + 1;
            progress.last = Some(mark);
            // Until the log is looked at for the first time: it may be created anew before that.
            progress.witness.get_or_insert(mark);
            if let Some(entry) = entry {
                self.tell(LogEvent::Entry(entry))?;
            }
        }
        if progress.unverified.is_empty() { self.check_goal(progress) } else { Ok(()) }
    }

    /// Before an entry that must be there it means only that a new leader does not know yet which entries are safe: that
    /// the log goes on beyond was asked before.
    fn meet_end(&mut self, progress: &mut Progress) -> Result<(), Interruption> {
        if !progress.unverified.is_empty() {
            let topic = self.link.topic();
            return Err(Gap(format!(
                "the journal {topic} does not give its newest entries yet; it is tried again by itself"
            )));
        }
        self.working()?;
        self.check_goal(progress)
    }

    fn check_goal(&self, progress: &mut Progress) -> Result<(), Interruption> {
        match progress.goal.take_if(|goal| *goal <= progress.next) {
            Some(end) => self.tell(LogEvent::CaughtUp { end }),
            None => Ok(()),
        }
    }

    /// What the partition's errors mean is seen by looking; the others are librdkafka's to mend.
    fn heed(&mut self, progress: &Progress, error: &KafkaError) -> Result<(), Interruption> {
        let Some(code) = error.rdkafka_error_code().filter(|code| is_of_partition(*code)) else { return Ok(()) };
        self.look(progress)?;
        Err(self.link.unanswered(code).into())
    }

    /// Asks whether the log goes on where it was read to.
    fn look(&mut self, progress: &Progress) -> Result<Ends, Interruption> {
        let placed = self.link.placed()?;
        if placed.partition != progress.partition {
            return Err(Broken(place::moved(
                self.link.topic(),
                progress.partition,
                placed.partition,
                placed.partitions,
            )));
        }
        let ends = self.link.ends(placed.partition)?;
        ends.hold(self.link.topic(), progress.next)?;
        Ok(ends)
    }

    /// Waits out a gap; nothing is fetched meanwhile, as nobody knows what it would be.
    fn pause(&mut self, words: String) -> Result<(), Interruption> {
        self.link.fetch_nothing();
        if self.told.as_ref() != Some(&words) {
            self.told = Some(words.clone());
            self.tell(LogEvent::Trouble(words))?;
        }
        self.tries += 1;
        if self.tries.is_multiple_of(TRIES_OF_A_CLIENT) {
            self.link.renew();
        }
        for _ in 0..RETRY_POLLS {
            self.idle()?;
        }
        Ok(())
    }

    fn restart_comes(&mut self) -> bool {
        self.link.fetch_nothing();
        loop {
            match self.idle() {
                Ok(()) => {}
                Err(Restart) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Lets librdkafka speak, and looks for commands.
    fn idle(&mut self) -> Result<(), Interruption> {
        // Nothing is assigned; what comes all the same is fetched again.
        let _ = self.link.poll();
        self.obey()
    }

    fn obey(&self) -> Result<(), Interruption> {
        match self.asked.has_changed() {
            Ok(false) => Ok(()),
            Ok(true) => Err(Restart),
            Err(_) => Err(Stop),
        }
    }

    fn working(&mut self) -> Result<(), Interruption> {
        self.tries = 0;
        if self.told.take().is_some() { self.tell(LogEvent::Working) } else { Ok(()) }
    }

    fn tell(&self, event: LogEvent) -> Result<(), Interruption> {
        self.events.blocking_send(event).map_err(|_| Stop)
    }
}

fn mark(message: &BorrowedMessage<'_>) -> Mark {
    let print = Fingerprint::of(stamp(message), message.key(), message.payload());
    Mark { offset: message.offset(), print }
}

fn entry(message: &BorrowedMessage<'_>) -> LogEntry {
    LogEntry {
        offset: message.offset(),
        at: stamp(message),
        stamped_by_broker: matches!(message.timestamp(), Timestamp::LogAppendTime(_)),
        payload: message.payload().unwrap_or_default().into(),
    }
}
