//! The journal for programs: one JSON object a line. The names are a contract; `alert-ips journal --help` lists them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{history::Unreadable, text::when};
use crate::{
    domain::{
        alert::Severity,
        audit::{Audit, Call, Cause, Declared, Free, Limited, Pause, Summary},
        budget::Room,
        journal::Reached,
        time::JournalTime,
    },
    ops::escape,
};

/// Everything has all of its fields: null is for what is not known.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line<'a> {
    Call(CallLine<'a>),
    Freeze(FreezeLine<'a>),
    Summary(Box<SummaryLine<'a>>),
}

#[derive(Serialize)]
struct CallLine<'a> {
    account: &'a str,
    claim: String,
    claimed_at: Option<String>,
    answered_at: Option<String>,
    took_ms: Option<u64>,
    instance: Option<&'a str>,
    alert_id: &'a str,
    severity: Option<&'static str>,
    why: &'static str,
    result: &'static str,
    reached: Option<&'static str>,
    http_status: Option<u16>,
    divergent: bool,
}

#[derive(Serialize)]
struct FreezeLine<'a> {
    account: &'a str,
    from: Option<String>,
    until: String,
    instance: Option<&'a str>,
    why: Option<&'a str>,
    lifts: bool,
}

#[derive(Serialize)]
struct SummaryLine<'a> {
    account: &'a str,
    since: String,
    until: String,
    read_from: Option<String>,
    calls: usize,
    why: BTreeMap<&'static str, usize>,
    results: BTreeMap<&'static str, usize>,
    failures: BTreeMap<String, usize>,
    instances: BTreeMap<String, usize>,
    refused_claims: usize,
    divergent_calls: usize,
    unruled_claims: usize,
    checkpoints: usize,
    carried_checkpoints: usize,
    copies: usize,
    unreadable_messages: usize,
    newest_version: Option<u32>,
    limits: Vec<LimitLine>,
    in_flight: Option<usize>,
    frozen_until: Option<String>,
    next_slot: NextSlotLine,
    terms: Vec<TermsLine<'a>>,
}

#[derive(Serialize)]
struct LimitLine {
    calls: u32,
    per_seconds: f64,
    fullest: usize,
    fullest_until: Option<String>,
    taken: Option<u32>,
    free_for_high: Option<u32>,
    free_for_others: Option<u32>,
}

/// Times; null where only an answer, or terms, can free one.
#[derive(Default, Serialize)]
struct NextSlotLine {
    high: Option<String>,
    others: Option<String>,
}

#[derive(Serialize)]
struct TermsLine<'a> {
    instance: Option<&'a str>,
    writer: String,
    limits: Vec<String>,
    share: f64,
    reserve: f64,
    max_in_flight: u32,
    superseded_at: Option<String>,
    seen_at: Option<String>,
}

/// The calls and freezes of the period.
pub(super) fn history<'a>(account: &'a str, audit: &'a Audit) -> impl Iterator<Item = String> + 'a {
    let calls = audit.calls().into_iter().map(move |told| call(account, told));
    calls.chain(audit.pauses().map(move |pause| freeze(account, pause)))
}

pub(super) fn call(account: &str, call: &Call) -> String {
    written(&Line::Call(CallLine {
        account,
        claim: call.claim.to_string(),
        claimed_at: call.claimed.map(when),
        answered_at: call.answered().map(when),
        took_ms: call.took().map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX)),
        instance: call.instance.as_deref(),
        alert_id: call.alert.as_str(),
        severity: call.severity.map(Severity::as_str),
        why: call.cause.as_str(),
        result: call.led_to().as_str(),
        reached: call.reached().map(Reached::as_str),
        http_status: call.status(),
        divergent: call.divergent,
    }))
}

pub(super) fn freeze(account: &str, pause: &Pause) -> String {
    written(&Line::Freeze(FreezeLine {
        account,
        from: pause.from.map(when),
        until: when(pause.until),
        instance: pause.by.as_ref().map(|(instance, _)| &**instance),
        why: pause.by.as_ref().map(|(_, why)| why.as_str()),
        lifts: pause.is_end(),
    }))
}

pub(super) fn summary(account: &str, summary: &Summary, unreadable: &Unreadable) -> String {
    let none = || "none".to_owned();
    let failures = summary.failures.iter().map(|(status, n)| (status.map_or_else(none, |it| it.to_string()), *n));
    let instances = summary.instances.iter().map(|(name, n)| (name.as_deref().unwrap_or("unknown").to_owned(), *n));
    let of_cause = |cause: Cause| (cause.as_str(), summary.causes.get(&cause).copied().unwrap_or_default());
    written(&Line::Summary(Box::new(SummaryLine {
        account,
        since: when(summary.since),
        until: when(summary.until),
        read_from: summary.begins.map(when),
        calls: summary.calls,
        why: Cause::ALL.map(of_cause).into(),
        results: summary.results.iter().map(|(result, n)| (result.as_str(), *n)).collect(),
        failures: failures.collect(),
        instances: instances.collect(),
        refused_claims: summary.refused,
        divergent_calls: summary.divergent,
        unruled_claims: summary.unruled,
        checkpoints: summary.checkpoints,
        carried_checkpoints: summary.carried,
        copies: summary.copies,
        unreadable_messages: unreadable.count,
        newest_version: unreadable.newest_version,
        limits: summary.limits.iter().map(limit).collect(),
        in_flight: summary.free.map(|free| free.in_flight),
        frozen_until: summary.free.and_then(|free| free.frozen_until).map(when),
        next_slot: summary.free.map(|free| next_slot(free, summary.until)).unwrap_or_default(),
        terms: summary.terms.iter().map(terms).collect(),
    })))
}

fn limit(limited: &Limited) -> LimitLine {
    LimitLine {
        calls: limited.limit.calls.get(),
        per_seconds: limited.limit.per.as_secs_f64(),
        fullest: limited.fullest.map_or(0, |fullest| fullest.calls),
        fullest_until: limited.fullest.map(|fullest| when(fullest.until)),
        taken: limited.now.map(|(taken, ..)| taken),
        free_for_high: limited.now.map(|(_, high, _)| high),
        free_for_others: limited.now.map(|(.., others)| others),
    }
}

fn next_slot(free: Free, now: JournalTime) -> NextSlotLine {
    let time = |room| match room {
        Room::Now => Some(when(now)),
        Room::At(free) => Some(when(free)),
        Room::AfterAnEntry => None,
    };
    let Some((high, others)) = free.next else { return NextSlotLine::default() };
    NextSlotLine { high: time(high), others: time(others) }
}

fn terms(declared: &Declared) -> TermsLine<'_> {
    TermsLine {
        instance: declared.instance.as_deref(),
        writer: declared.writer.to_string(),
        limits: declared.terms.limits.iter().map(ToString::to_string).collect(),
        share: declared.terms.share,
        reserve: declared.terms.reserve,
        max_in_flight: declared.terms.max_in_flight,
        superseded_at: declared.superseded.map(when),
        seen_at: declared.seen.map(when),
    }
}

/// Texts and numbers always have a JSON form.
fn written(line: &Line<'_>) -> String {
    escape::json(&serde_json::to_string(line).unwrap_or_default())
}
