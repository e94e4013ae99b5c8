//! Where the source reads: when partitions come, and when what was known of them holds no more.

use std::{
    collections::{HashMap, HashSet},
    mem,
    sync::Arc,
    time::Duration,
};

use rdkafka::{
    TopicPartitionList,
    consumer::{Consumer as _, RebalanceProtocol},
    error::KafkaResult,
};

use super::{BATCH, Consumer};
use crate::{
    crash_point::{self, Point},
    domain::{
        beginning::{Beginning, Place, Seen},
        record::{Epoch, Partition, Receipt},
    },
    kafka::{
        ends::{Ends, ends},
        notice::{self, Trouble},
        place::{self, Answer, Leaders, Placed},
        source::SourceEvent,
    },
};

/// How often, and how long, librdkafka is let say what it has logged; it says that before anything else.
const LOG_POLLS: usize = 3;
const LOG_POLL: Duration = Duration::from_millis(20);

/// Asking brokers that do not answer takes seconds, in which nothing else is read.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
const AGAIN_AFTER_FAILURE: Duration = Duration::from_mins(1);

impl Consumer {
    /// Takes up what Kafka says the places of; the rest waits, for one that has no place must not hold up the others.
    pub(super) fn assign(&mut self, list: &TopicPartitionList) {
        crash_point::pass(Point::AssignBefore);
        let asked = place::patiently(|| self.ask_for_leaders(list));
        self.hear_ids();
        let Some(Answer { placed, unplaced }) =
            asked.and_then(|leaders| place::patiently(|| self.ask_for_places(list, &leaders)))
        else {
            return self.give_up_assigning();
        };
        self.waiting.put(unplaced, self.clock.boot());
        if !self.begin(&placed) {
            self.waiting.forget(list);
            return;
        }
        self.tell_what_waits();
        crash_point::pass(Point::AssignAfter);
    }

    /// Takes up what had no place before and has one now.
    pub(super) fn ask_again(&mut self) {
        let now = self.clock.boot();
        // Asking polls, which may add a record.
        let list = self.waiting.due(now).filter(|_| self.batch.is_empty());
        let Some(list) = list else { return };
        let asked = self.ask_for_leaders(&list);
        self.hear_ids();
        let answer = asked.and_then(|leaders| self.ask_for_places(&list, &leaders));
        let now = self.clock.boot();
        let Answer { placed, unplaced } = answer.unwrap_or_else(|error| {
            tracing::debug!(error = %notice::error_words(&error), "asking again where to begin failed");
            Answer { placed: Vec::new(), unplaced: Vec::new() }
        });
        self.waiting.put(unplaced, now);
        // What is about to be taken away is not taken up.
        if !placed.is_empty() && !self.connection.callbacks().is_rebalancing() && self.begin(&placed) {
            self.waiting.remove(placed.iter().map(|placed| &placed.partition));
        }
        self.tell_what_waits();
    }

    /// These are read from now on, beside those that are read already. False where librdkafka refuses that.
    fn begin(&mut self, placed: &[Placed]) -> bool {
        let new = placed.iter().map(Placed::at);
        let accepted = if let RebalanceProtocol::Cooperative = self.kafka().rebalance_protocol() {
            place::list(new).and_then(|list| self.kafka().incremental_assign(&list))
        } else {
            let known = self.assigned.places().map(|(partition, place)| (partition, place.next));
            place::list(known.chain(new)).and_then(|list| self.kafka().assign(&list))
        };
        if let Err(error) = accepted {
            let words = notice::error_words(&error);
            self.reporter.trouble(Trouble::Other(format!(
                "an assignment of partitions failed: {words}; the group rebalances again"
            )));
            return false;
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        let partitions: Vec<_> = self.take_up(placed);
        self.flow.begin(self.connection.kafka(), &self.assigned, &partitions);
        let (mut committed, mut begun) = (Vec::new(), Vec::new());
        for placed in placed {
            match placed.point(self.epoch) {
                Ok(point) => committed.push(point),
                Err(point) => begun.push(point),
            }
        }
        // An assignment of which all wait is none yet: it says nothing of the input's condition.
        if !partitions.is_empty() || self.waiting.is_empty() {
            self.reporter.working();
            self.tell(SourceEvent::Assigned { partitions, committed, begun, epoch: self.epoch });
        }
        self.tell_removed(placed);
        for words in place::fresh_words(placed, &self.config.group_id, self.start) {
            tracing::info!("{words}");
        }
        true
    }

    fn ask_for_leaders(&self, list: &TopicPartitionList) -> KafkaResult<Leaders> {
        let topics: HashSet<String> = list.elements().iter().map(|element| element.topic().to_owned()).collect();
        Leaders::ask(self.kafka(), topics.iter().map(String::as_str))
    }

    /// Lets librdkafka say what it has learned of the topics' ids.
    fn hear_ids(&mut self) {
        for _ in 0..LOG_POLLS {
            self.poll_once(LOG_POLL);
        }
    }

    /// Asks where partitions begin, and how far they are settled.
    fn ask_for_places(&self, list: &TopicPartitionList, leaders: &Leaders) -> KafkaResult<Answer> {
        place::placed(self.kafka(), list, leaders, self.start, |partition| {
            let at_assignment = self.waiting.others_were_read(partition);
            at_assignment.or_else(|| self.read.contains(&partition.topic).then_some(true))
        })
    }

    /// Without an answer nothing is read: what was settled would be done again.
    fn give_up_assigning(&mut self) {
        self.reporter.trouble(Trouble::Other(
            "kafka does not say how far the group has committed; the consumer joins again until it does".to_owned(),
        ));
        self.failed = true;
    }

    fn tell_what_waits(&mut self) {
        let Some(words) = self.waiting.news() else { return };
        if self.assigned.is_empty() {
            self.reporter.trouble(Trouble::Other(words));
        } else {
            tracing::warn!("{words}");
        }
    }

    /// These are read from their places on, under the present epoch.
    fn take_up(&mut self, placed: &[Placed]) -> Vec<Partition> {
        let added = placed.iter().map(|Placed { partition, place, .. }| {
            self.read.insert(Arc::clone(&partition.topic));
            self.assigned.add(partition, self.epoch, *place)
        });
        added.collect()
    }

    fn tell_removed(&self, placed: &[Placed]) {
        for placed in placed {
            placed.tell();
            if let Some(offsets) = placed.removed() {
                self.tell(SourceEvent::Removed { partition: placed.partition.clone(), offsets });
            }
        }
    }

    /// Partitions whose place is gone, or whose topic is another one now, go on where nothing is skipped.
    pub(super) fn look_again(&mut self) {
        if self.clock.boot() < self.not_looked_before {
            return;
        }
        let callbacks = self.connection.callbacks();
        let list = self.assigned.list_where(|partition| callbacks.is_displaced(partition));
        let ends = if list.count() == 0 { Ends::default() } else { ends(self.kafka(), &list) };
        if list.count() > 0 {
            // What the group takes away meanwhile is given up first: librdkafka would take this for it.
            self.hear_ids();
            if self.connection.callbacks().is_rebalancing() {
                return;
            }
        }
        let callbacks = self.connection.callbacks();
        let (changed, misplaced) = (callbacks.ids.take_changed(), callbacks.take_misplaced());
        let is_displaced = |partition: &Partition| misplaced || changed.contains(&*partition.topic);
        let known = self.assigned.list_where(|partition| is_displaced(partition) && ends.of(partition).is_ok());
        let unknown = self.assigned.list_where(|partition| is_displaced(partition) && ends.of(partition).is_err());
        if unknown.count() > 0 {
            tracing::warn!("kafka does not say where {} partitions are read on; it is asked again", unknown.count());
            self.not_looked_before = self.clock.boot() + LOOK_AGAIN_AFTER;
            self.connection.callbacks().ids.put_back(changed);
            if misplaced {
                self.connection.callbacks().set_misplaced();
            }
        }
        self.relocate(&known, &ends, &HashMap::new());
    }

    /// Reads partitions again from these records on, so far as they are this instance's.
    pub(super) fn read_again(&mut self, mut from: HashMap<Partition, Receipt>) {
        from.retain(|_, from| self.assigned.is_current(from));
        let now = self.clock.boot();
        if from.is_empty() || self.connection.callbacks().is_rebalancing() || now < self.not_again_before {
            return;
        }
        let ends = ends(self.kafka(), &self.assigned.list_where(|partition| from.contains_key(partition)));
        let known = |partition: &Partition| from.contains_key(partition) && ends.of(partition).is_ok();
        let list = self.assigned.list_where(known);
        if list.count() < from.len() {
            self.not_again_before = now + AGAIN_AFTER_FAILURE;
            tracing::warn!(
                "kafka does not say where records can be read again that were set aside; it is asked again in a minute"
            );
        }
        self.relocate(&list, &ends, &from);
    }

    /// Has the listed partitions read on where that is between their `ends`, or again `from` a record.
    fn relocate(&mut self, list: &TopicPartitionList, ends: &Ends, from: &HashMap<Partition, Receipt>) {
        let partitions = self.assigned.partitions(list);
        if partitions.is_empty() {
            return;
        }
        let mut placed = Vec::with_capacity(partitions.len());
        let mut again = Vec::new();
        for (partition, before) in self.assigned.places() {
            let others_were_read = true;
            let log = self.connection.callbacks().ids.of(&partition.topic);
            let Some((first, end)) = ends.of(partition).ok().filter(|_| partitions.contains(partition)) else {
                let next = before.next;
                let seen = Seen { before: Some(before), log: before.log, first: next, end: next, others_were_read };
                placed.push(Placed::new(partition.clone(), seen, next, ""));
                continue;
            };
            // What is judged is how far it was read, also where it is being read again.
            let reached = Place { next: self.assigned.reached(partition).unwrap_or(before.next), log: before.log };
            let seen = Seen { before: Some(reached), log, first, end, others_were_read };
            let mut placed_now = Placed::new(partition.clone(), seen, before.next, "");
            if let Beginning::GoesOn(_) = placed_now.beginning {
                placed_now.place.next = from.get(partition).map_or(before.next, |from| from.offset).max(first);
                again.extend(from.get(partition).map(|from| (from.clone(), first)));
            }
            placed.push(placed_now);
        }
        // What was read of an old log comes before what is read of the new one.
        if !self.batch.is_empty() {
            let records = mem::replace(&mut self.batch, Vec::with_capacity(BATCH));
            self.tell(SourceEvent::Records(records));
        }
        if let Err(error) = self.moved(list, &partitions, &placed, from.is_empty()) {
            tracing::warn!(error = %notice::error_words(&error), "reading can't go on; the consumer is made anew");
            self.failed = true;
            return;
        }
        placed.retain(|placed| partitions.contains(&placed.partition));
        self.flow.begin(self.connection.kafka(), &self.assigned, &partitions);
        self.went_on(&placed);
        for (from, first) in again {
            self.tell(SourceEvent::ReadAgain { from, first });
        }
    }

    /// Has librdkafka read the listed partitions at their places. `displaced`: whether it has stopped reading them by itself,
    /// or reads another log; then it takes them up anew, else they stay, whatever the group does meanwhile.
    fn moved(
        &self,
        list: &TopicPartitionList,
        partitions: &[Partition],
        placed: &[Placed],
        displaced: bool,
    ) -> KafkaResult<()> {
        let of_list = || placed.iter().filter(|placed| partitions.contains(&placed.partition));
        if !displaced && !of_list().any(Placed::is_anew) {
            let sought = self.kafka().seek_partitions(place::list(of_list().map(Placed::at))?, place::LIMIT)?;
            // Refused for one that it has stopped reading by itself.
            if sought.elements().iter().all(|element| element.error().is_ok()) {
                return Ok(());
            }
        }
        if let RebalanceProtocol::Cooperative = self.kafka().rebalance_protocol() {
            self.kafka().incremental_unassign(list)?;
            self.kafka().incremental_assign(&place::list(of_list().map(Placed::at))?)
        } else {
            self.kafka().assign(&place::list(placed.iter().map(Placed::at))?)
        }
    }

    fn went_on(&mut self, placed: &[Placed]) {
        self.epoch = Epoch(self.epoch.0 + 1);
        let mut begun = Vec::new();
        for placed in placed {
            if placed.is_anew() {
                self.assigned.add(&placed.partition, self.epoch, placed.place);
                begun.extend(placed.point(self.epoch).err());
            } else {
                self.assigned.go_on_at(&placed.partition, placed.place.next);
            }
        }
        if !begun.is_empty() {
            self.tell(SourceEvent::BegunAnew { begun });
        }
        self.tell_removed(placed);
    }

    /// A topic that was deleted is taken away like any other; but what was read of it can't be read by anyone again.
    pub(super) fn tell_what_is_gone(&mut self, partitions: &[Partition]) {
        let topics: HashSet<_> = partitions.iter().map(|partition| &partition.topic).collect();
        let is_gone = |topic: &&Arc<str>| place::is_there(self.kafka(), topic) == Some(false);
        let gone: Vec<_> = topics.into_iter().filter(is_gone).cloned().collect();
        let is_of = |partition: &Partition| gone.contains(&partition.topic);
        let partitions: Vec<_> = partitions.iter().filter(|partition| is_of(partition)).cloned().collect();
        if partitions.is_empty() {
            return;
        }
        let (of_them, others) =
            mem::take(&mut self.batch).into_iter().partition(|record| is_of(&record.receipt.partition));
        self.batch = others;
        if !of_them.is_empty() {
            self.tell(SourceEvent::Records(of_them));
        }
        self.tell(SourceEvent::Gone { partitions });
    }
}
