//! What the simulated service can answer, and how each answer looks on the wire.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;

use crate::domain::limit::Limit;

/// An address that only stands in answers which must not be used. Whoever publishes it used one.
pub const BAIT: &str = "192.0.2.66";

/// One answer to "which IPs are related to this alert?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// 200 with these texts as addresses, whatever they are.
    Found(Vec<String>),
    /// 200 with an empty list.
    Empty,
    /// 404 in the service's words.
    NotFound,
    /// 429; the message names a limit's window, as the live service was seen to do.
    TooManyRequests { retry_after: RetryAfter, window: Option<Limit> },
    /// Any other status, with a body of the kind the service or its gateway gives.
    Status { code: u16, retry_after: RetryAfter },
    /// A 3xx to `location`.
    Redirect { code: u16, location: String },
    /// 200 in several pages, each but the last with an `@odata.nextLink`.
    Pages { pages: Vec<Vec<String>>, next: NextPage },
    /// Exactly these bytes and headers.
    Raw { code: u16, headers: Vec<(String, String)>, body: Bytes },
    /// 200 with a valid body that holds [`BAIT`], spoilt by this fault of the connection.
    Broken(Fault),
}

impl Answer {
    /// A 429 that asks to wait for `seconds`.
    pub fn throttled(seconds: u64) -> Self {
        Self::TooManyRequests { retry_after: RetryAfter::Seconds(seconds), window: None }
    }

    /// A status without `Retry-After`.
    pub fn status(code: u16) -> Self {
        Self::Status { code, retry_after: RetryAfter::None }
    }

    /// The addresses of an answer that is final, or `None` for what is no answer to the question.
    pub fn addresses(&self) -> Option<Vec<&str>> {
        match self {
            Self::Found(texts) => Some(texts.iter().map(String::as_str).collect()),
            Self::Pages { pages, next: NextPage::Follows } => {
                Some(pages.iter().flatten().map(String::as_str).collect())
            }
            Self::Empty => Some(Vec::new()),
            _ => None,
        }
    }
}

/// Where an `@odata.nextLink` leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextPage {
    /// To the next page.
    Follows,
    /// To the same page again, for ever.
    Itself,
    /// To this address, which the daemon must not call.
    Elsewhere(String),
}

/// The forms of a `Retry-After` header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RetryAfter {
    #[default]
    None,
    Seconds(u64),
    /// An HTTP-date this many seconds after the answer's own `Date`; may lie in the past.
    DateIn(i64),
    Text(String),
    /// Two headers that disagree.
    Twice(String, String),
}

/// How a connection misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request never reaches the service: the connection is closed unread.
    Refused,
    /// The connection is closed after the request was read, without an answer.
    Reset,
    /// The request is read and nothing comes back.
    Hang,
    /// The head and half of the body come, then the connection breaks.
    Truncated,
    /// `Content-Length` promises more than comes before the connection closes.
    LyingLength,
    /// A body that never ends.
    Endless,
    /// The body comes a byte at a time, with this pause between two.
    Drip(Duration),
}

/// What the service does with one request.
#[derive(Debug)]
pub struct Reply {
    pub response: Response<Bytes>,
    /// How long the answer is on its way back.
    pub delay: Duration,
    pub fault: Option<Fault>,
}

/// What of a request shows in its answer.
pub(super) struct Asked<'a> {
    pub(super) id: &'a str,
    /// `scheme://host:port` under which the service was called.
    pub(super) origin: String,
    /// The page asked for, 0 for the first.
    pub(super) page: usize,
    pub(super) wall: Timestamp,
    /// The tracking id in error bodies.
    pub(super) target: String,
}

impl Answer {
    pub(super) fn reply(&self, asked: &Asked<'_>) -> Reply {
        let mut fault = None;
        let mut response = match self {
            Self::Found(texts) => list(texts, &asked.origin, None),
            Self::Empty => list(&[], &asked.origin, None),
            Self::NotFound => error(404, "ResourceNotFound", &format!("Alert {} not found", asked.id), &asked.target),
            Self::TooManyRequests { window, .. } => {
                let message = window.map_or_else(String::new, |limit| {
                    format!("API calls quota exceeded! maximum allowed {} per {}", limit.calls, clock_face(limit.per))
                });
                error(429, "429", &message, &asked.target)
            }
            Self::Status { code, .. } => of_status(*code, &asked.target),
            Self::Redirect { code, location } => {
                let mut response = plain(*code, Bytes::new());
                response.headers_mut().extend(value(location).map(|location| (header::LOCATION, location)));
                response
            }
            Self::Pages { pages, next } => page(pages, next, asked),
            Self::Raw { code, headers, body } => {
                let mut response = plain(*code, body.clone());
                for (name, text) in headers {
                    if let (Ok(name), Some(text)) = (HeaderName::try_from(name), value(text)) {
                        response.headers_mut().append(name, text);
                    }
                }
                response
            }
            Self::Broken(kind) => {
                fault = Some(*kind);
                list(&[BAIT.to_owned()], &asked.origin, None)
            }
        };
        if let Self::TooManyRequests { retry_after, .. } | Self::Status { retry_after, .. } = self {
            retry_after.write(response.headers_mut(), asked.wall);
        }
        stamp(&mut response, asked.wall);
        Reply { response, delay: Duration::ZERO, fault }
    }
}

impl RetryAfter {
    pub(super) fn write(&self, headers: &mut HeaderMap, wall: Timestamp) {
        let texts = match self {
            Self::None => [None, None],
            Self::Seconds(seconds) => [Some(seconds.to_string()), None],
            Self::DateIn(seconds) => {
                [Some(http_date(wall.saturating_add(jiff::SignedDuration::from_secs(*seconds)).unwrap_or(wall))), None]
            }
            Self::Text(text) => [Some(text.clone()), None],
            Self::Twice(first, second) => [Some(first.clone()), Some(second.clone())],
        };
        for text in texts.iter().flatten().filter_map(|text| value(text)) {
            headers.append(header::RETRY_AFTER, text);
        }
    }
}

/// A JSON body with a status, for both the API and the sign-in.
pub(super) fn json_response(code: u16, body: &serde_json::Value) -> Response<Bytes> {
    let mut response = plain(code, body.to_string().into());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json; odata.metadata=minimal; charset=utf-8"),
    );
    response
}

pub(super) fn error(code: u16, name: &str, message: &str, target: &str) -> Response<Bytes> {
    json_response(code, &json!({"error": {"code": name, "message": message, "target": target}}))
}

/// Sets the `Date` header to the simulated time.
pub(super) fn stamp(response: &mut Response<Bytes>, wall: Timestamp) {
    response.headers_mut().extend(value(&http_date(wall)).map(|date| (header::DATE, date)));
}

pub(super) fn plain(code: u16, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

fn list(texts: &[String], origin: &str, next: Option<String>) -> Response<Bytes> {
    let value: Vec<_> = texts.iter().map(|text| json!({"id": text})).collect();
    let mut body = json!({"@odata.context": format!("{origin}/$metadata#Ips"), "value": value});
    if let Some(next) = next {
        body["@odata.nextLink"] = next.into();
    }
    json_response(200, &body)
}

fn page(pages: &[Vec<String>], next: &NextPage, asked: &Asked<'_>) -> Response<Bytes> {
    let link_to = |page: usize| format!("{}/api/alerts/{}/ips?$skip={page}", asked.origin, asked.id);
    let link = match next {
        NextPage::Follows => (asked.page + 1 < pages.len()).then(|| link_to(asked.page + 1)),
        NextPage::Itself => Some(link_to(asked.page)),
        NextPage::Elsewhere(address) => Some(address.clone()),
    };
    list(pages.get(asked.page).map_or(&[], Vec::as_slice), &asked.origin, link)
}

/// The service answers its own errors in JSON; 502, 503 and 504 come from a gateway before it, as a page for people.
fn of_status(code: u16, target: &str) -> Response<Bytes> {
    match code {
        400 => error(code, "BadRequest", "The request is not valid", target),
        401 => error(code, "Unauthorized", "Invalid or expired authorization header", target),
        403 => error(code, "Forbidden", "Valid token but insufficient permission for the action", target),
        500 => json_response(500, &json!({"error": {"code": "InternalServerError", "target": target}})),
        502..=504 => {
            let mut response = plain(code, Bytes::from(format!("<html><body><h1>{code}</h1></body></html>\r\n")));
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            response
        }
        _ => error(code, &code.to_string(), "", target),
    }
}

/// A header value, or `None` for a text that HTTP cannot carry.
fn value(text: &str) -> Option<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes()).ok()
}

fn http_date(wall: Timestamp) -> String {
    let since_epoch = Duration::from_secs(wall.as_second().try_into().unwrap_or(0));
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + since_epoch)
}

/// `00:01:00`, as in the service's messages.
fn clock_face(duration: Duration) -> String {
    let seconds = duration.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn asked(page: usize) -> Asked<'static> {
        Asked {
            id: "da1_1",
            origin: "http://service".into(),
            page,
            wall: Timestamp::constant(1_795_000_000, 0),
            target: "guid".into(),
        }
    }

    fn body(answer: &Answer, page: usize) -> serde_json::Value {
        serde_json::from_slice(answer.reply(&asked(page)).response.body()).unwrap()
    }

    #[test]
    fn errors_use_the_words_of_the_live_service() {
        assert_eq!(
            body(&Answer::NotFound, 0),
            json!({"error": {"code": "ResourceNotFound", "message": "Alert da1_1 not found", "target": "guid"}})
        );
        let window = Some("45 per 1m".parse().unwrap());
        let message = body(&Answer::TooManyRequests { retry_after: RetryAfter::None, window }, 0);
        assert_eq!(message["error"]["message"], "API calls quota exceeded! maximum allowed 45 per 00:01:00");
        assert_eq!(message["error"]["code"], "429");
    }

    #[rstest]
    #[case::none(RetryAfter::None, &[])]
    #[case::seconds(RetryAfter::Seconds(120), &["120"])]
    #[case::date(RetryAfter::DateIn(60), &["Wed, 18 Nov 2026 11:07:40 GMT"])]
    #[case::past_date(RetryAfter::DateIn(-60), &["Wed, 18 Nov 2026 11:05:40 GMT"])]
    #[case::junk(RetryAfter::Text("abc".into()), &["abc"])]
    #[case::twice(RetryAfter::Twice("1".into(), "9".into()), &["1", "9"])]
    fn retry_after_comes_in_every_form(#[case] retry_after: RetryAfter, #[case] expected: &[&str]) {
        let answer = Answer::TooManyRequests { retry_after, window: None };
        let response = answer.reply(&asked(0)).response;
        let texts: Vec<_> = response.headers().get_all(header::RETRY_AFTER).iter().collect();
        assert_eq!(texts, expected);
        assert_eq!(response.headers()[header::DATE], "Wed, 18 Nov 2026 11:06:40 GMT");
    }

    #[test]
    fn pages_lead_to_each_other_and_end() {
        let answer = Answer::Pages { pages: vec![vec!["::1".into()], vec!["::2".into()]], next: NextPage::Follows };
        assert_eq!(body(&answer, 0)["@odata.nextLink"], "http://service/api/alerts/da1_1/ips?$skip=1");
        assert_eq!(
            body(&answer, 1),
            json!({"@odata.context": "http://service/$metadata#Ips", "value": [{"id": "::2"}]})
        );
    }
}
