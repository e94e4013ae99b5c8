//! What the way through one message gathers: alerts, merged by id, skips, and the items that can't be used.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use serde::de::Error;

use super::{
    Decoded, Decoder, Indexed, MAX_ITEMS, Original, Reading,
    custom::{self, Untold},
    fields::Fields,
    syntax, text,
};
use crate::domain::{
    alert::{Alert, AlertId, Severity},
    format::Mapping,
    outcome::{Reason, Rejection, Skip},
};

/// How many of the items that can't be used are described.
const DESCRIBED_FAULTS: usize = 3;

/// Deepest nesting of containers that is entered: an array of envelopes of pages needs three.
const MAX_NESTED: usize = 4;

/// One pass through one message. Its methods give the parser an error only to end the walk.
pub(super) struct Walk<'d> {
    decoder: &'d Decoder,
    /// Of the message; empty where the text is no part of it.
    payload: &'d [u8],
    found: Decoded,
    /// The detection source of each alert in `found`, where the filter looks at it.
    detection_sources: Vec<Option<Box<str>>>,
    /// Where in `found.alerts` an alert id was first found.
    first_of: HashMap<AlertId, usize>,
    /// And where the same id under another tenant than that one's.
    of_further_tenants: HashMap<(AlertId, Arc<str>), usize>,
    /// How many lists of the operator's own are around what comes now.
    holding: usize,
    /// What was found in these.
    held: Vec<Held>,
    /// How many items were met.
    items: usize,
    faults: Faults,
    /// Bytes of originals that may still be copied.
    room_for_copies: usize,
    /// Why the walk ends before the end of the text, while this is on its way out through the parser.
    stopped: Option<Rejection>,
}

impl<'d> Walk<'d> {
    /// Reads the whole text. An error is one of the message as a whole.
    pub(super) fn through(
        decoder: &'d Decoder,
        text: &str,
        payload: &'d [u8],
        room_for_copies: usize,
        now: Timestamp,
    ) -> Result<Decoded, Rejection> {
        let mut walk = Self {
            decoder,
            payload,
            found: Decoded::default(),
            detection_sources: Vec::new(),
            first_of: HashMap::new(),
            of_further_tenants: HashMap::new(),
            room_for_copies,
            holding: 0,
            held: Vec::new(),
            items: 0,
            faults: Faults::default(),
            stopped: None,
        };
        text::read(&mut walk, text, 0)?;
        walk.leave_out_unwanted(now);
        walk.found.rejection = walk.faults.into_rejection(walk.items);
        Ok(walk.found)
    }

    pub(super) fn decoder(&self) -> &'d Decoder {
        self.decoder
    }

    /// An item that is an object, which the shapes read; if none does, there may be JSON in its `message`.
    pub(super) fn object<E: Error>(
        &mut self,
        object: &Fields<'_, '_>,
        nested: usize,
        original: Option<&str>,
    ) -> Result<(), E> {
        if object.is_too_deep() {
            return self.unusable(syntax::too_deep());
        }
        match self.decoder.read(object) {
            Some(Ok(Reading::Alert(alert))) => {
                let wanted = self.decoder.filter.looks_at_detection_sources();
                let source = wanted.then(|| self.decoder.detection_source(object)).flatten();
                self.alert(alert, original, source, |mapping| Untold::by(mapping, object))
            }
            Some(Ok(Reading::Skip(skip))) => self.skip(skip),
            Some(Err(rejection)) => self.unusable(rejection),
            None => text::read_message(self, object, nested)
                .unwrap_or_else(|| self.unusable(self.decoder.unknown_shape(object))),
        }
    }

    /// Whether any shape reads the object, with whatever result.
    pub(super) fn is_known(&self, object: &Fields<'_, '_>) -> bool {
        self.decoder.read(object).is_some()
    }

    /// A list of the operator's own begins: what is found in it is held until the object around it has told the rest. Returns how
    /// many are held before it.
    pub(super) fn hold(&mut self) -> usize {
        self.holding += 1;
        self.held.len()
    }

    /// The object `around` a list has ended, before which so many were held.
    pub(super) fn release(&mut self, before: usize, around: &Fields<'_, '_>) {
        if let Some(mapping) = self.decoder.mapping() {
            let told = custom::told_around(mapping, around);
            for Held { alert, untold, .. } in self.held.iter_mut().skip(before) {
                custom::complete(alert, untold, &told);
            }
        }
        self.holding -= 1;
        if self.holding == 0 {
            for Held { index, alert, original, detection_source, .. } in std::mem::take(&mut self.held) {
                self.found(index, alert, |_, _| original, detection_source);
            }
        }
    }

    /// An item that is a text.
    pub(super) fn text<E: Error>(&mut self, text: &str, original: Option<&str>) -> Result<(), E> {
        match self.decoder.bare_id(text) {
            Some(Reading::Alert(alert)) => self.alert(alert, original, None, |_| Untold::ALL),
            Some(Reading::Skip(skip)) => self.skip(skip),
            None => self.unusable(unknown("text is no alert".into())),
        }
    }

    /// How many containers are around what is in one that has `nested` around it; an error if that are too many.
    pub(super) fn below(nested: usize) -> Result<usize, Rejection> {
        if nested == MAX_NESTED {
            return Err(unknown(format!("lists nested more than {MAX_NESTED} deep")));
        }
        Ok(nested + 1)
    }

    /// An item that needs neither a call nor an output.
    pub(super) fn skip<E: Error>(&mut self, skip: Skip) -> Result<(), E> {
        self.next_index()?;
        self.found.skips.push(skip);
        Ok(())
    }

    /// An item that can't be used.
    pub(super) fn unusable<E: Error>(&mut self, rejection: Rejection) -> Result<(), E> {
        let index = self.next_index()?;
        self.faults.add(index, rejection);
        Ok(())
    }

    /// Ends the walk: the whole message can't be used.
    pub(super) fn stop<T, E: Error>(&mut self, rejection: Rejection) -> Result<T, E> {
        self.stopped = Some(rejection);
        Err(E::custom("stopped"))
    }

    /// Why the walk ended, if it did by itself.
    pub(super) fn take_stopped(&mut self) -> Option<Rejection> {
        self.stopped.take()
    }

    /// Turns the alerts that the filter refuses into skips, once all is known about each.
    fn leave_out_unwanted(&mut self, now: Timestamp) {
        let filter = &self.decoder.filter;
        let mut sources = std::mem::take(&mut self.detection_sources).into_iter();
        let Decoded { alerts, skips, unwanted, .. } = &mut self.found;
        alerts.retain(|Indexed { index, alert, .. }| {
            let Some(refused) = filter.refuses(alert, sources.next().flatten().as_deref(), now) else { return true };
            skips.push(refused);
            unwanted.push((*index, alert.id.clone()));
            false
        });
    }

    /// An item that is about an alert.
    fn alert<E: Error>(
        &mut self,
        alert: Alert,
        original: Option<&str>,
        detection_source: Option<&str>,
        untold: impl Fn(&Mapping) -> Untold,
    ) -> Result<(), E> {
        let index = self.next_index()?;
        let detection_source = detection_source.map(Into::into);
        let keep = |payload: &[u8], room: &mut usize| Original::within(payload, original?, room);
        match self.decoder.mapping().filter(|_| self.holding > 0) {
            Some(mapping) => {
                let (untold, original) = (untold(mapping), keep(self.payload, &mut self.room_for_copies));
                self.held.push(Held { index, alert, untold, original, detection_source });
            }
            None => self.found(index, alert, keep, detection_source),
        }
        Ok(())
    }

    /// An alert, or what an item adds to the one that is there. The same id under another tenant is another alert.
    fn found(
        &mut self,
        index: usize,
        alert: Alert,
        original: impl FnOnce(&[u8], &mut usize) -> Option<Original>,
        detection_source: Option<Box<str>>,
    ) {
        let alerts = &mut self.found.alerts;
        let first = *self.first_of.entry(alert.id.clone()).or_insert(alerts.len());
        let known = alerts.get(first).and_then(|indexed| indexed.alert.tenant.as_ref());
        let at = match (known, &alert.tenant) {
            (Some(known), Some(tenant)) if known != tenant => {
                *self.of_further_tenants.entry((alert.id.clone(), tenant.clone())).or_insert(alerts.len())
            }
            _ => first,
        };
        if let Some(known) = alerts.get_mut(at) {
            merge(&mut known.alert, alert);
            if let Some(source @ None) = self.detection_sources.get_mut(at) {
                *source = detection_source;
            }
        } else {
            let original = original(self.payload, &mut self.room_for_copies);
            alerts.push(Indexed { index, alert, original });
            if self.decoder.filter.looks_at_detection_sources() {
                self.detection_sources.push(detection_source);
            }
        }
    }

    fn next_index<E: Error>(&mut self) -> Result<usize, E> {
        if self.items == MAX_ITEMS {
            let detail = format!("more than {MAX_ITEMS} items in one message; split it");
            return self.stop(Rejection { reason: Reason::UnknownShape, detail });
        }
        self.items += 1;
        Ok(self.items - 1)
    }
}

/// An alert of a list whose object may tell more of it.
struct Held {
    index: usize,
    alert: Alert,
    untold: Untold,
    original: Option<Original>,
    detection_source: Option<Box<str>>,
}

pub(super) fn unknown(detail: String) -> Rejection {
    Rejection { reason: Reason::UnknownShape, detail }
}

/// Adds to `known` what another item tells about the same alert.
fn merge(known: &mut Alert, other: Alert) {
    known.severity = match (known.severity, other.severity) {
        (Severity::Unspecified, severity) | (severity, Severity::Unspecified) => severity,
        (one, another) => one.min(another),
    };
    known.updated = known.updated.max(other.updated);
    known.created = [known.created, other.created].into_iter().flatten().min();
    known.tenant = known.tenant.take().or(other.tenant);
}

/// The items that can't be used, gathered into one rejection.
#[derive(Default)]
struct Faults {
    count: usize,
    reason: Option<Reason>,
    described: Vec<String>,
}

impl Faults {
    fn add(&mut self, index: usize, Rejection { reason, detail }: Rejection) {
        self.count += 1;
        // A bad id may be an alert that is lost; an unknown shape is more likely none.
        if self.reason != Some(Reason::InvalidAlertId) {
            self.reason = Some(reason);
        }
        if self.described.len() < DESCRIBED_FAULTS {
            self.described.push(format!("item {index}: {detail}"));
        }
    }

    fn into_rejection(self, items: usize) -> Option<Rejection> {
        let reason = self.reason?;
        let mut detail = self.described.join("; ");
        if items > 1 {
            detail = format!("{} of {items} items can't be used: {detail}", self.count);
        }
        if self.count > self.described.len() {
            detail = format!("{detail}; and {} more", self.count - self.described.len());
        }
        Some(Rejection { reason, detail })
    }
}
