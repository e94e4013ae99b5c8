//! The real HTTP client against a real server that misbehaves on the wire.

use std::time::Duration;

use alert_ips::{
    clock::Clock,
    defender::{
        token::SignIn,
        transport::{HttpFailure, HttpRequest, HttpResponse, HttpTransport, Timeouts, Transport},
        wire::Api,
    },
    domain::{alert::AlertId, journal::Reached},
    sim::{Answer, Fault, Mix, Plan, Settings, Sim, http::Server},
};
use rstest::rstest;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

const QUICK: Timeouts =
    Timeouts { connect: Duration::from_millis(500), head: Duration::from_millis(500), total: Duration::from_secs(1) };

/// Asks a simulated service that gives this answer, with a genuine token.
async fn ask(answer: Answer) -> (Result<HttpResponse, HttpFailure>, Sim) {
    let mut settings = Settings::new(1);
    settings.plan = Plan::new(1, Mix::ALL_FOUND).script("a", vec![answer]);
    let sim = Sim::new(settings, Clock::machine());
    let server = Server::bind(sim.clone(), "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let origin = Url::parse(&server.origin()).unwrap();
    tokio::spawn(server.run(CancellationToken::new()));
    let transport = HttpTransport::new(QUICK, None, None, 1).unwrap();
    let clock = Clock::machine();
    let sign_in = SignIn::new(&origin, "tenant", "client", "https://api.securitycenter.microsoft.com/.default");
    let token = sign_in.fetch(&transport, &"secret".into(), clock.boot(), clock.wall()).await.unwrap();
    assert!(!token.lacks_role());
    let url = Api::new(&origin).ips(&AlertId::parse("a").unwrap());
    (transport.send(HttpRequest::Get { url, bearer: token.bearer }).await, sim)
}

#[tokio::test]
async fn an_answer_comes_whole_with_what_is_needed_of_its_head() {
    let (response, sim) = ask(Answer::throttled(17)).await;
    let response = response.unwrap();
    assert_eq!((response.status, response.retry_after, response.date.is_some()), (429, vec!["17".to_owned()], true));
    let calls = sim.calls();
    assert_eq!(&*calls[0].path, "/api/alerts/a/ips");
    assert!(calls[0].instance.as_deref().unwrap().starts_with("MdatpPartner-alert-ips/"));
}

#[rstest]
#[case::truncated(Fault::Truncated, Reached::Complete)]
#[case::lying_length(Fault::LyingLength, Reached::Complete)]
#[case::endless(Fault::Endless, Reached::Complete)]
#[case::byte_by_byte(Fault::Drip(Duration::from_millis(300)), Reached::Complete)]
#[case::hang(Fault::Hang, Reached::Unknown)]
#[case::reset(Fault::Reset, Reached::Unknown)]
#[tokio::test]
async fn a_broken_exchange_is_a_failure_and_never_an_answer(#[case] fault: Fault, #[case] reached: Reached) {
    let (result, _) = ask(Answer::Broken(fault)).await;
    let failure = result.unwrap_err();
    assert_eq!(failure.reached(), reached, "{failure}");
    let words = failure.to_string();
    assert!(!words.contains("127.0.0.1") && !words.contains("Bearer"), "{words}");
}

#[tokio::test]
async fn an_endless_body_is_cut_off_at_its_bound() {
    let (result, _) = ask(Answer::Broken(Fault::Endless)).await;
    assert!(matches!(result, Err(HttpFailure::TooLarge | HttpFailure::SlowBody(_))), "{result:?}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_like_any_other_and_nobody_follows_it() {
    let decoy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/api/alerts/a/ips", decoy.local_addr().unwrap());
    let (response, _) = ask(Answer::Redirect { code: 307, location }).await;
    assert_eq!(response.unwrap().status, 307);
    let visited = tokio::time::timeout(Duration::from_millis(200), decoy.accept()).await;
    assert!(visited.is_err(), "someone followed the redirect");
}

#[tokio::test]
async fn nobody_listening_means_that_nothing_was_reached() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", closed.local_addr().unwrap())).unwrap();
    drop(closed);
    let transport = HttpTransport::new(QUICK, None, None, 1).unwrap();
    let failure = transport.send(HttpRequest::Get { url, bearer: "token".into() }).await.unwrap_err();
    assert!(matches!(failure, HttpFailure::Connect(_)), "{failure}");
    assert_eq!(failure.reached(), Reached::Never);
}

/// A server that speaks no TLS, or whose certificate nobody trusts, never gets as far as a request.
#[tokio::test]
async fn without_a_trusted_certificate_nothing_is_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/api/alerts/a/ips", listener.local_addr().unwrap())).unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_buf(&mut stream, &mut bytes).await;
        // What a plain HTTP server would answer.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        bytes
    });
    let transport = HttpTransport::new(QUICK, None, None, 1).unwrap();
    let failure = transport.send(HttpRequest::Get { url, bearer: "canary-token".into() }).await.unwrap_err();
    assert_eq!(failure.reached(), Reached::Never, "{failure}");
    let seen = seen.await.unwrap();
    assert!(!seen.windows(6).any(|window| window == b"canary"), "the token was sent in the clear");
}
