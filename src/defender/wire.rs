//! The service's URLs and JSON: how a question is put, and what an answer means.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use url::Url;

use super::transport::{HttpFailure, HttpResponse};
use crate::domain::{
    alert::AlertId,
    retry::{Failure, FailureKind, Throttle, Verdict},
};

/// The longest pause that an answer can ask for.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Most characters of the service's own words that are repeated.
const QUOTED: usize = 200;

/// The API's origin and path prefix. Nothing else ever gets the token.
#[derive(Clone, Debug)]
pub struct Api {
    /// Ends with `/api/alerts/`.
    alerts: Url,
}

impl Api {
    /// `api_url` is the configured base, such as `https://api.security.microsoft.com`.
    pub fn new(api_url: &Url) -> Self {
        let mut alerts = api_url.clone();
        let path = format!("{}/api/alerts/", api_url.path().trim_end_matches('/'));
        alerts.set_path(&path);
        Self { alerts }
    }

    /// Where the IPs of an alert are. An [`AlertId`] holds nothing that a URL would read as more than one segment.
    pub fn ips(&self, id: &AlertId) -> Url {
        let mut url = self.alerts.clone();
        url.set_path(&format!("{}{id}/ips", self.alerts.path()));
        url
    }

    /// Where an answer goes on, if that is the same alert on the same origin; `nextLink` may say anything.
    pub fn next_page(&self, id: &AlertId, link: &str) -> Option<Url> {
        let next = Url::parse(link).ok()?;
        let here = self.ips(id);
        let same = next.origin() == here.origin()
            && next.path() == here.path()
            && next.username().is_empty()
            && next.password().is_none();
        same.then_some(next)
    }
}

#[derive(Deserialize)]
struct IpsPage {
    value: Vec<IpItem>,
    #[serde(rename = "@odata.nextLink", default)]
    next: Option<String>,
}

#[derive(Deserialize)]
struct IpItem {
    id: String,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    error: ErrorDetail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    message: String,
    target: String,
}

/// What an answer means. Keyed on the HTTP status alone: the body's `code` has been seen to differ from the documented.
pub fn classify(response: &HttpResponse, now: Timestamp) -> Verdict {
    match response.status {
        200 => page(response),
        404 => Verdict::NotFound,
        401 => Verdict::Reauthenticate,
        403 => Verdict::Forbidden(said(response)),
        429 => Verdict::Throttled(Throttle { retry_after: retry_after(response, now), window: named_window(response) }),
        408 | 425 | 500..=599 => Verdict::Retry(Failure {
            kind: FailureKind::Status,
            detail: format!("HTTP {}{}", response.status, said(response)),
            retry_after: retry_after(response, now),
        }),
        300..=399 => bad_response(format!("HTTP {}: a redirect, which is never followed", response.status)),
        400..=499 => Verdict::Reject(format!("HTTP {}{}", response.status, said(response))),
        status => bad_response(format!("HTTP {status}, which this API does not use")),
    }
}

/// What a failed exchange means.
pub fn classify_failure(failure: &HttpFailure) -> Verdict {
    let kind = match failure {
        HttpFailure::Connect(_) => FailureKind::Connect,
        HttpFailure::Timeout(_) | HttpFailure::SlowBody(_) => FailureKind::Timeout,
        HttpFailure::Broken(_) | HttpFailure::Truncated(_) => FailureKind::Broken,
        HttpFailure::TooLarge => FailureKind::BadResponse,
    };
    Verdict::Retry(Failure { kind, detail: failure.to_string(), retry_after: None })
}

fn page(response: &HttpResponse) -> Verdict {
    if let Some(content_type) = &response.content_type
        && !is_json(content_type)
    {
        return bad_response(format!("the answer is not JSON but {}", quoted(content_type)));
    }
    match serde_json::from_slice::<IpsPage>(&response.body) {
        Ok(page) => Verdict::Page { texts: page.value.into_iter().map(|item| item.id).collect(), next: page.next },
        Err(error) => {
            bad_response(format!("the answer is not what the API's page describes: {}", quoted(&error.to_string())))
        }
    }
}

/// `application/json` or `…+json`, in UTF-8 or without a charset.
fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    let utf8 = parts
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .all(|(_, charset)| charset.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"));
    (kind == "application/json" || kind.ends_with("+json")) && utf8
}

fn bad_response(detail: String) -> Verdict {
    Verdict::Retry(Failure { kind: FailureKind::BadResponse, detail, retry_after: None })
}

/// `: what the service said (its tracking id)`, or nothing. The text is free: it is quoted, never acted on.
fn said(response: &HttpResponse) -> String {
    let body: ErrorBody = serde_json::from_slice(&response.body).unwrap_or_default();
    match (body.error.message.as_str(), body.error.target.as_str()) {
        ("", _) => String::new(),
        (message, "") => format!(": {}", quoted(message)),
        (message, target) => format!(": {} (the service's tracking id: {})", quoted(message), quoted(target)),
    }
}

/// Text from outside, escaped and cut.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).flat_map(char::escape_default).collect();
    if text.chars().nth(QUOTED).is_some() {
        short.push('…');
    }
    short
}

/// The longest valid `Retry-After`: seconds, or a date read against the same answer's `Date`. `None` for junk and for now.
pub(super) fn retry_after(response: &HttpResponse, now: Timestamp) -> Option<Duration> {
    let sent = date(response).unwrap_or(now);
    let pause = |text: &String| {
        let text = text.trim();
        if let Ok(seconds) = text.parse::<u64>() {
            return Some(Duration::from_secs(seconds));
        }
        Duration::try_from(http_date(text)?.duration_since(sent)).ok()
    };
    let longest = response.retry_after.iter().filter_map(pause).max()?;
    (!longest.is_zero()).then_some(longest.min(LONGEST_PAUSE))
}

/// What the answer says the time is: its `Date`, in whole seconds.
pub(super) fn date(response: &HttpResponse) -> Option<Timestamp> {
    http_date(response.date.as_deref()?)
}

fn http_date(text: &str) -> Option<Timestamp> {
    Timestamp::try_from(httpdate::parse_http_date(text).ok()?).ok()
}

/// The period of "maximum allowed 1500 per 01:00:00", as seen in the service's 429 messages.
fn named_window(response: &HttpResponse) -> Option<Duration> {
    let body: ErrorBody = serde_json::from_slice(&response.body).ok()?;
    let (_, after) = body.error.message.rsplit_once(" per ")?;
    let period: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == ':').collect();
    let mut parts = period.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let window =
        Duration::from_secs(hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?);
    (!window.is_zero() && window <= LONGEST_PAUSE * 24).then_some(window)
}
