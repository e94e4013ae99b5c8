//! One HTTP exchange, and nothing around it: no redirects, no retries, no cookies, bounded in time and size.
//!
//! The trait is the seam that lets a simulated service stand in for the network under paused time.

use std::{future::Future, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::crash_point::{self, Point};

/// Most bytes of a body that are read.
pub const MAX_BODY: usize = 4 * 1024 * 1024;

/// What is sent.
#[derive(Debug)]
pub enum HttpRequest {
    /// `GET` with `Authorization: Bearer …`.
    Get { url: Url, bearer: SecretString },
    /// `POST` of an already encoded form.
    PostForm { url: Url, form: SecretString },
}

/// What came back, whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpResponse {
    pub status: u16,
    /// Every `Retry-After` header, as sent.
    pub retry_after: Vec<String>,
    /// The `Date` header.
    pub date: Option<String>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    pub body: Bytes,
}

/// Why nothing whole came back. The details are in words and hold neither URL nor header values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFailure {
    #[error("no connection: {0}")]
    Connect(String),
    #[error("no answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    #[error("the connection broke before the answer was complete: {0}")]
    Broken(String),
    #[error("the answer was cut off: {0}")]
    Truncated(String),
    #[error("the answer's body was not complete within {}", humantime::format_duration(*.0))]
    SlowBody(Duration),
    #[error("the answer's body is larger than {} MiB", MAX_BODY / 1024 / 1024)]
    TooLarge,
}

impl HttpFailure {
    /// Whether the request can have reached the service, and can still reach it.
    pub const fn reached(&self) -> crate::domain::journal::Reached {
        use crate::domain::journal::Reached;
        match self {
            Self::Connect(_) => Reached::Never,
            Self::Timeout(_) | Self::Broken(_) => Reached::Unknown,
            // A status line came: the service has counted the call.
            Self::Truncated(_) | Self::SlowBody(_) | Self::TooLarge => Reached::Complete,
        }
    }
}

/// Makes one exchange.
pub trait Transport: Send + Sync + 'static {
    fn send(&self, request: HttpRequest) -> impl Future<Output = Result<HttpResponse, HttpFailure>> + Send;
}

/// How long the parts of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Until the answer's head is complete.
    pub head: Duration,
    /// Until its body is.
    pub total: Duration,
}

/// The real network, through reqwest.
#[derive(Clone, Debug)]
pub struct HttpTransport {
    client: reqwest::Client,
    timeouts: Timeouts,
}

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("http.ca_file: {0}")]
    CaFile(String),
    #[error("http.proxy: not a usable proxy address: {0}")]
    Proxy(String),
    #[error("the HTTP client can't be set up: {0}")]
    Client(String),
}

/// What every client here has in common: TLS by rustls, no redirect followed, `proxy` only where one is configured (the
/// environment's is ignored). `ca_pem` replaces the platform's certificate authorities.
pub fn builder(
    connect: Duration,
    proxy: Option<&Url>,
    ca_pem: Option<&[u8]>,
) -> Result<reqwest::ClientBuilder, HttpSetupError> {
    // A second call finds the same provider installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect)
        .tcp_nodelay(true)
        .no_proxy();
    if let Some(proxy) = proxy {
        builder =
            builder.proxy(reqwest::Proxy::all(proxy.clone()).map_err(|error| HttpSetupError::Proxy(words(&error)))?);
    }
    if let Some(pem) = ca_pem {
        let authorities =
            reqwest::Certificate::from_pem_bundle(pem).map_err(|error| HttpSetupError::CaFile(words(&error)))?;
        builder = builder.tls_certs_only(authorities);
    }
    Ok(builder)
}

impl HttpTransport {
    /// HTTP/1.1 over rustls, through `proxy` only where one is configured (the environment's is ignored).
    ///
    /// `ca_pem` replaces the platform's certificate authorities. `connections` idle connections are kept.
    pub fn new(
        timeouts: Timeouts,
        proxy: Option<&Url>,
        ca_pem: Option<&[u8]>,
        connections: usize,
    ) -> Result<Self, HttpSetupError> {
        let client = builder(timeouts.connect, proxy, ca_pem)?
            .http1_only()
            .retry(reqwest::retry::never())
            .user_agent(concat!("MdatpPartner-alert-ips/", env!("CARGO_PKG_VERSION")))
            .pool_max_idle_per_host(connections)
            .build()
            .map_err(|error| HttpSetupError::Client(words(&error)))?;
        Ok(Self { client, timeouts })
    }

    async fn body(mut response: reqwest::Response) -> Result<Bytes, HttpFailure> {
        let declared = response.content_length().unwrap_or(0);
        if declared > MAX_BODY as u64 {
            return Err(HttpFailure::TooLarge);
        }
        let truncated = |error: reqwest::Error| HttpFailure::Truncated(words(&error));
        // Most answers are one chunk: they are taken as they are.
        let Some(first) = response.chunk().await.map_err(truncated)? else { return Ok(Bytes::new()) };
        crash_point::pass(Point::HttpMidBody);
        let Some(second) = response.chunk().await.map_err(truncated)? else { return Ok(first) };
        let mut body = BytesMut::from(first);
        let mut next = Some(second);
        while let Some(chunk) = next {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(HttpFailure::TooLarge);
            }
            body.extend_from_slice(&chunk);
            next = response.chunk().await.map_err(truncated)?;
        }
        Ok(body.freeze())
    }
}

impl Transport for HttpTransport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let request = match request {
            HttpRequest::Get { url, bearer } => self.client.get(url).header(AUTHORIZATION, bearer_header(&bearer)?),
            HttpRequest::PostForm { url, form } => self
                .client
                .post(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose_secret().to_owned()),
        };
        let started = tokio::time::Instant::now();
        let response = tokio::time::timeout(self.timeouts.head, request.send())
            .await
            .map_err(|_| HttpFailure::Timeout(self.timeouts.head))?
            .map_err(failure)?;
        crash_point::pass(Point::HttpHeadReceived);
        let mut answer = head(response.status().as_u16(), response.headers());
        answer.body = tokio::time::timeout_at(started + self.timeouts.total, Self::body(response))
            .await
            .map_err(|_| HttpFailure::SlowBody(self.timeouts.total))??;
        Ok(answer)
    }
}

fn bearer_header(bearer: &SecretString) -> Result<HeaderValue, HttpFailure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", bearer.expose_secret()))
        .map_err(|_| HttpFailure::Connect("the token holds characters that no header may hold".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn head(status: u16, headers: &HeaderMap) -> HttpResponse {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    HttpResponse {
        status,
        retry_after: headers.get_all("retry-after").iter().map(text).collect(),
        date: headers.get("date").map(text),
        content_type: headers.get(CONTENT_TYPE).map(text),
        body: Bytes::new(),
    }
}

fn failure(error: reqwest::Error) -> HttpFailure {
    let error = error.without_url();
    if error.is_connect() { HttpFailure::Connect(words(&error)) } else { HttpFailure::Broken(words(&error)) }
}

/// The innermost cause says most; reqwest's own words ("error sending request") say least.
fn words(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
