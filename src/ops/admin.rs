//! Admin HTTP: is it alive, is it ready, what does it measure, which version is it.
//!
//! Made for loopback. Only GET and HEAD; a request whose `Host` is not one of ours is refused with 421, so that no web
//! page can read it through a name that it points at this machine (DNS rebinding). Nothing here shows a secret, an
//! alert id or an address.

use std::{future::Future, io, net::IpAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri::Authority},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};

use super::readiness::Readiness;
use crate::observe::{
    health::{ALIVE_WITHIN, Health},
    metrics::Metrics,
    snapshot::Watches,
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// How long open requests may take to finish at the end; an idle connection must not hold up the program.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

/// What the endpoints show. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admin {
    pub health: Health,
    pub metrics: Metrics,
    pub watches: Watches,
}

/// Serves until `shutdown` completes.
///
/// `listen` is the address as configured: its host is accepted in requests, beside `localhost`, `127.0.0.1` and
/// `[::1]`.
pub async fn serve(
    listener: TcpListener,
    listen: &str,
    admin: Admin,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (end, mut ending) = watch::channel(());
    let signalled = async move {
        // An error means that it ends, too.
        let _ = ending.changed().await;
    };
    let serving = axum::serve(listener, router(admin, Hosts::of(listen))).with_graceful_shutdown(signalled);
    let overdue = async move {
        shutdown.await;
        end.send_replace(());
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        ended = serving => ended,
        () = overdue => Ok(()),
    }
}

fn router(admin: Admin, hosts: Hosts) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/healthz", get(livez))
        .route("/readyz", get(readyz))
        .route("/ready", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .fallback(nothing_here)
        .layer(from_fn(harden))
        .layer(from_fn_with_state(Arc::new(hosts), check_host))
        .with_state(admin)
}

async fn livez(State(admin): State<Admin>) -> Response {
    let stalled = admin.health.stalled(admin.health.now(), ALIVE_WITHIN);
    if stalled.is_empty() {
        return text(StatusCode::OK, "alive\n".into());
    }
    let lines = stalled.iter().map(|it| format!("{} has not turned for {} s\n", it.owner, it.silent_for.as_secs()));
    text(StatusCode::SERVICE_UNAVAILABLE, lines.collect())
}

async fn readyz(State(admin): State<Admin>, RawQuery(query): RawQuery) -> Response {
    let readiness = Readiness::of(&admin.health, admin.watches.snapshot());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let verbose = query.is_some_and(|query| query.split('&').any(|it| it == "verbose" || it.starts_with("verbose=")));
    if verbose { json(status, &readiness) } else { text(status, readiness.lines()) }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode(&admin.watches.snapshot()) {
        Ok(metrics) => ([(header::CONTENT_TYPE, OPEN_METRICS)], metrics).into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics can't be written: {error}\n")),
    }
}

async fn version() -> Response {
    #[derive(Serialize)]
    struct Version {
        name: &'static str,
        version: &'static str,
    }
    json(StatusCode::OK, &Version { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION") })
}

async fn nothing_here() -> Response {
    text(StatusCode::NOT_FOUND, "nothing here; there are /livez, /readyz?verbose, /metrics and /version\n".into())
}

fn text(status: StatusCode, body: String) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], body).into_response()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_string(body) {
        Ok(body) => (status, [(header::CONTENT_TYPE, JSON)], body + "\n").into_response(),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("the answer can't be written: {error}\n")),
    }
}

/// Answers are about this moment and are what they say they are.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn check_host(State(hosts): State<Arc<Hosts>>, request: Request, next: Next) -> Response {
    if hosts.accept(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let words = "this host name is not served here: use localhost or the address configured as `admin.listen`\n";
    text(StatusCode::MISDIRECTED_REQUEST, words.into())
}

/// The host names that a request may be for.
#[derive(Debug)]
struct Hosts {
    names: Vec<String>,
    /// Where we listen on every address, each of them may be asked for. A literal address can't be rebound: no name is
    /// looked up for it.
    any_address: bool,
}

impl Hosts {
    fn of(listen: &str) -> Self {
        let configured = host_of(listen).unwrap_or_default();
        let address = configured.trim_matches(['[', ']']).parse::<IpAddr>();
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "[::1]"].map(String::from).into();
        if !configured.is_empty() {
            names.push(configured.to_ascii_lowercase());
        }
        Self { names, any_address: address.is_ok_and(|address| address.is_unspecified()) }
    }

    fn accept(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        // The absolute form of a request names the host a second time.
        let authority = uri.authority().map(Authority::as_str);
        host.to_str().is_ok_and(|host| self.accepts(host)) && authority.is_none_or(|host| self.accepts(host))
    }

    fn accepts(&self, authority: &str) -> bool {
        host_of(authority).is_some_and(|host| {
            let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
            self.names.iter().any(|name| name.eq_ignore_ascii_case(host))
                || (self.any_address && literal.parse::<IpAddr>().is_ok())
        })
    }
}

/// The host of `host` or `host:port`, an IPv6 address with its brackets; `None` where it is neither.
fn host_of(authority: &str) -> Option<&str> {
    let after_bracket = authority.find(']').map_or(0, |at| at + 1);
    let host = match authority[after_bracket..].find(':') {
        None => authority,
        Some(colon) => {
            let (host, port) = authority.split_at(after_bracket + colon);
            port[1..].parse::<u16>().ok()?;
            host
        }
    };
    (!host.is_empty()).then_some(host)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use jiff::Timestamp;
    use rstest::rstest;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
        task::JoinHandle,
    };

    use super::*;
    use crate::{
        clock::Clock,
        domain::phase::Phase,
        observe::{
            health::Condition,
            status::{AccountStatus, Pause, WindowStatus},
        },
    };

    struct Server {
        at: SocketAddr,
        health: Health,
        phase: watch::Sender<Phase>,
        account: watch::Sender<AccountStatus>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    async fn start() -> Server {
        let health = Health::new(Clock::following_tokio(Timestamp::UNIX_EPOCH));
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let (account, account_seen) = watch::channel(AccountStatus::default());
        let admin = Admin {
            health: health.clone(),
            metrics: Metrics::new(Timestamp::UNIX_EPOCH, ["defender.alerts"]),
            watches: Watches::new(phase_seen, [("contoso".into(), account_seen)]),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(async move { serve(listener, "127.0.0.1:9466", admin, shutdown).await });
        Server { at, health, phase, account, stop, task }
    }

    impl Server {
        /// The whole answer to a request with these first lines.
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.at).await.unwrap();
            stream.write_all(format!("{request}\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> (u16, String) {
            let answer = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost")).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            (head[9..12].parse().unwrap(), body.to_owned())
        }
    }

    #[tokio::test]
    async fn it_is_ready_when_every_part_is() {
        let server = start().await;
        let kafka = server.health.part("kafka");
        kafka.set(Condition::Waiting("no broker answers at broker:9092; it is tried again".into()));
        let (status, body) = server.get("/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("kafka waiting for 0 s: no broker answers at broker:9092; it is tried again"), "{body}");

        kafka.set(Condition::Ok);
        assert_eq!(server.get("/readyz").await, (200, "ready\n".into()));
        assert_eq!(server.get("/ready").await.0, 200);
    }

    #[rstest]
    #[case(Phase::Starting)]
    #[case(Phase::Draining)]
    #[case(Phase::Stopped)]
    #[tokio::test]
    async fn it_is_ready_only_while_it_runs(#[case] phase: Phase) {
        let server = start().await;
        server.phase.send(phase).unwrap();
        assert_eq!(server.get("/readyz").await, (503, format!("not ready, {phase}\n")));
    }

    #[tokio::test]
    async fn waiting_for_quota_is_ready_and_shown() {
        let server = start().await;
        server.health.part("kafka").set(Condition::Ok);
        server.account.send_modify(|status| {
            status.windows = vec![WindowStatus { per: Duration::from_hours(1), calls: 1500, used: 1500, left: 0 }];
            status.next_slot_in = Some(Duration::from_secs(41));
            status.paused = Some(Pause { why: "frozen by a 429".into(), remaining: None, lasting: false });
        });
        let (status, body) = server.get("/readyz?verbose").await;
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["ready"], &body["phase"]), (200, &true.into(), &"running".into()));
        assert_eq!((&body["parts"][0]["name"], &body["parts"][0]["state"]), (&"kafka".into(), &"ok".into()));
        let account = &body["accounts"][0];
        assert_eq!(account["name"], "contoso");
        assert_eq!(account["windows"][0], serde_json::json!({"per": "1h", "calls": 1500, "used": 1500, "left": 0}));
        assert_eq!(account["next_slot_in_seconds"], 41.0);
        assert_eq!(account["backlog"][0]["severity"], "high");
        assert_eq!(account["paused"]["why"], "frozen by a 429");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_alive_while_the_loops_turn() {
        let server = start().await;
        let pulse = server.health.pulse("dispatcher");
        assert_eq!(server.get("/livez").await, (200, "alive\n".into()));
        tokio::time::advance(ALIVE_WITHIN + Duration::from_secs(1)).await;
        assert_eq!(server.get("/healthz").await, (503, "dispatcher has not turned for 31 s\n".into()));
        pulse.beat(server.health.now());
        assert_eq!(server.get("/livez").await.0, 200);
    }

    #[tokio::test]
    async fn metrics_come_as_open_metrics_text() {
        let server = start().await;
        let answer = server.ask("GET /metrics HTTP/1.1\r\nHost: localhost").await;
        assert!(answer.contains(OPEN_METRICS), "{answer}");
        assert!(answer.contains("alert_ips_phase{phase=\"running\"} 1.0\n"), "{answer}");
        assert!(answer.contains("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn the_version_has_a_name() {
        let (status, body) = start().await.get("/version").await;
        assert_eq!(status, 200);
        assert_eq!(body, format!("{{\"name\":\"alert-ips\",\"version\":\"{}\"}}\n", env!("CARGO_PKG_VERSION")));
    }

    #[rstest]
    #[case::head("HEAD /livez HTTP/1.1\r\nHost: localhost", 200)]
    #[case::post("POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405)]
    #[case::delete("DELETE /metrics HTTP/1.1\r\nHost: localhost", 405)]
    #[case::options("OPTIONS /metrics HTTP/1.1\r\nHost: localhost", 405)]
    #[case::unknown("GET /secrets HTTP/1.1\r\nHost: localhost", 404)]
    #[case::rebound("GET /metrics HTTP/1.1\r\nHost: evil.example", 421)]
    #[case::rebound_absolute("GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost", 421)]
    #[case::two_hosts("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", 421)]
    #[case::no_host("GET /metrics HTTP/1.0", 421)]
    #[tokio::test]
    async fn only_reading_and_only_here(#[case] request: &str, #[case] status: u16) {
        let answer = start().await.ask(request).await;
        assert_eq!(answer[9..12], status.to_string(), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    }

    #[rstest]
    #[case::name("127.0.0.1:9466", "localhost", true)]
    #[case::any_case("127.0.0.1:9466", "LocalHost", true)]
    #[case::tunnelled("127.0.0.1:9466", "localhost:8080", true)]
    #[case::v6("127.0.0.1:9466", "[::1]:9466", true)]
    #[case::configured_name("soc-1.example:9466", "soc-1.example:9466", true)]
    #[case::configured_v6("[fd00::1]:9466", "[fd00::1]", true)]
    #[case::other_address("127.0.0.1:9466", "10.0.0.1", false)]
    #[case::every_address("0.0.0.0:9466", "10.0.0.1:9466", true)]
    #[case::every_v6_address("[::]:9466", "[fd00::1]:9466", true)]
    #[case::every_address_but_no_name("0.0.0.0:9466", "evil.example:9466", false)]
    #[case::prefix("127.0.0.1:9466", "localhost.evil.example", false)]
    #[case::suffix("127.0.0.1:9466", "evil-localhost", false)]
    #[case::user("127.0.0.1:9466", "localhost@evil.example", false)]
    #[case::bad_port("127.0.0.1:9466", "localhost:http", false)]
    #[case::trailing_dot("127.0.0.1:9466", "localhost.", false)]
    #[case::empty("127.0.0.1:9466", "", false)]
    #[case::only_a_port("127.0.0.1:9466", ":9466", false)]
    fn hosts_are_matched_exactly(#[case] listen: &str, #[case] host: &str, #[case] accepted: bool) {
        assert_eq!(Hosts::of(listen).accepts(host), accepted);
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_up_the_end() {
        let server = start().await;
        let _idle = TcpStream::connect(server.at).await.unwrap();
        server.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(10), server.task).await.unwrap().unwrap().unwrap();
    }
}
