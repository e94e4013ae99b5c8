//! A journal that several accounts share, in this process: an order of entries, with delays both ways, as a topic has.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    clock::Clock,
    defender::journal::{Footing, Journal, News},
    domain::{
        budget::Budget,
        journal::{Body, Entry, Stamped},
        time::{BootTime, JournalTime},
    },
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::{sync::mpsc, time::sleep};

/// More entries than are ever on their way.
const MANY: usize = 10_000;

/// The entries in the order that decides, and who reads them.
#[derive(Clone)]
pub(super) struct Topic {
    clock: Clock,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    entries: Vec<Stamped>,
    /// The next entry of this kind gets lost.
    lost: Option<fn(&Body) -> bool>,
    readers: Vec<mpsc::Sender<News>>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug)]
pub(super) enum Begin {
    Oldest,
    NewestCheckpoint,
}

impl Topic {
    pub(super) fn new(clock: &Clock) -> Self {
        Self { clock: clock.clone(), log: Arc::default() }
    }

    /// Takes an entry in, and tells it to all who read.
    pub(super) fn append(&self, entry: Entry) {
        let mut log = self.log.lock().unwrap();
        if log.lost.take_if(|lost| lost(&entry.body)).is_some() {
            return;
        }
        let (at, offset) = (now(&self.clock), i64::try_from(log.entries.len()).unwrap());
        let stamped = Stamped { at, offset, entry };
        log.tell(|| News::Entry(stamped.clone()));
        log.entries.push(stamped);
    }

    /// The next entry of this kind is lost on its way, and nobody is told.
    pub(super) fn lose(&self, kind: fn(&Body) -> bool) {
        self.log.lock().unwrap().lost = Some(kind);
    }

    /// All that is in it.
    pub(super) fn entries(&self) -> Vec<Stamped> {
        self.log.lock().unwrap().entries.clone()
    }

    /// When each checkpoint was written, and as of which offset.
    pub(super) fn checkpoints(&self) -> Vec<(Duration, Option<i64>)> {
        let checkpoint = |stamped: &Stamped| match &stamped.entry.body {
            Body::Checkpoint(checkpoint) => Some((stamped.at.since_origin(), checkpoint.offset)),
            _ => None,
        };
        self.entries().iter().filter_map(checkpoint).collect()
    }

    /// Deletes it and creates it anew, as those who read it notice.
    pub(super) fn recreate(&self) {
        let mut log = self.log.lock().unwrap();
        log.entries.clear();
        log.tell(|| News::Replaced);
        log.tell(|| News::Unusable("reading the journal".to_owned()));
        log.tell(|| News::Replay(Box::default()));
        log.tell(|| News::Usable(Footing::default()));
    }
}

impl Log {
    /// To all but those that are gone.
    fn tell(&mut self, news: impl Fn() -> News) {
        self.readers.retain(|reader| reader.try_send(news()).is_ok());
    }

    fn history(&self, begin: Begin) -> VecDeque<News> {
        let newest = |stamped: &Stamped| match &stamped.entry.body {
            Body::Checkpoint(checkpoint) => Some((checkpoint.offset?, Budget::from(&**checkpoint))),
            _ => None,
        };
        let checkpoint = match begin {
            Begin::Oldest => None,
            Begin::NewestCheckpoint => self.entries.iter().rev().find_map(newest),
        };
        let (from, budget) = checkpoint.map_or((0, Budget::default()), |(offset, budget)| (offset + 1, budget));
        let entries = self.entries[usize::try_from(from).unwrap()..].iter().cloned().map(News::Entry);
        let replay = std::iter::once(News::Replay(Box::new(budget)));
        replay.chain(entries).chain([News::Usable(Footing::default())]).collect()
    }
}

/// One instance's view of the topic: an append takes a while to get there, an entry a while to come back.
pub(super) struct TopicJournal {
    clock: Clock,
    appends: mpsc::Sender<Entry>,
    arriving: mpsc::Receiver<News>,
    here: VecDeque<News>,
    /// The newest entry's stamp, and when it was read.
    newest: (JournalTime, BootTime),
}

impl TopicJournal {
    pub(super) fn open(topic: &Topic, begin: Begin, seed: u64) -> Self {
        let (appends, mut queued) = mpsc::channel::<Entry>(MANY);
        let (deliver, arriving) = mpsc::channel(MANY);
        let (sender, mut sent) = mpsc::channel::<News>(MANY);
        let here = {
            let mut log = topic.log.lock().unwrap();
            log.readers.push(sender);
            log.history(begin)
        };
        let clock = topic.clock.clone();
        let topic = topic.clone();
        let (mut there, mut back) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(!seed));
        tokio::spawn(async move {
            while let Some(entry) = queued.recv().await {
                sleep(Duration::from_micros(there.random_range(500..30_000))).await;
                topic.append(entry);
            }
        });
        tokio::spawn(async move {
            while let Some(news) = sent.recv().await {
                sleep(Duration::from_micros(back.random_range(500..5_000))).await;
                if deliver.try_send(news).is_err() {
                    return;
                }
            }
        });
        Self { clock, appends, arriving, here, newest: Default::default() }
    }
}

impl TopicJournal {
    /// As time passes only with entries and since the last of them: what time it is in the log nobody else says.
    fn read(&mut self, news: News) -> News {
        if let News::Entry(stamped) = &news {
            self.newest = (stamped.at, self.clock.boot());
        }
        news
    }
}

impl Journal for TopicJournal {
    fn append(&mut self, entry: Entry) {
        let _ = self.appends.try_send(entry);
    }

    fn try_next(&mut self) -> Option<News> {
        let news = self.here.pop_front().or_else(|| self.arriving.try_recv().ok())?;
        Some(self.read(news))
    }

    async fn next(&mut self) -> News {
        if let Some(news) = self.try_next() {
            return news;
        }
        match self.arriving.recv().await {
            Some(news) => self.read(news),
            None => std::future::pending().await,
        }
    }

    async fn flush(&mut self) {}

    fn now(&self) -> JournalTime {
        let (stamped, read) = self.newest;
        stamped + self.clock.boot().saturating_since(read)
    }
}

fn now(clock: &Clock) -> JournalTime {
    JournalTime::from_origin(clock.boot().since_origin())
}
