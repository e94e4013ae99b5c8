//! The simulated service on a socket: plain HTTP/1.1, one origin for the sign-in and the API, faults included.

use std::{
    collections::VecDeque,
    error::Error,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::http::{HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{Fault, Outage, Reply, Sim};

/// No request the daemon makes has a larger body.
const MAX_REQUEST_BODY: usize = 64 * 1024;

/// A listening service.
pub struct Server {
    sim: Sim,
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens at `address`; port 0 takes a free one.
    pub async fn bind(sim: Sim, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { sim, listener, address })
    }

    /// The address it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `api_url` and `authority_url`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `stop`, then closes every connection.
    pub async fn run(self, stop: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(self.sim.clone(), stream));
                    }
                    // Out of descriptors, most likely: give connections time to close.
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
            }
        }
    }
}

async fn serve(sim: Sim, stream: TcpStream) {
    if sim.with(|service| service.switches.outage == Some(Outage::Refused)) {
        reset(&stream);
        return;
    }
    // A simulator that delays small answers would blur every measurement.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| Box::pin(respond(sim.clone(), request)));
    let mut connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
    let ended = poll_fn(|context| connection.poll_without_shutdown(context)).await;
    if ended.is_err_and(|error| error.source().is_some_and(<dyn Error>::is::<ResetConnection>)) {
        reset(connection.into_parts().io.inner());
    }
}

/// Closing the stream will send RST instead of FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// The service says so to have its connection closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the plan breaks this connection")]
struct ResetConnection;

async fn respond(sim: Sim, request: Request<Incoming>) -> Result<Response<WireBody>, ResetConnection> {
    let (parts, body) = request.into_parts();
    let body = if body.is_end_stream() {
        Bytes::new()
    } else {
        axum::body::to_bytes(axum::body::Body::new(body), MAX_REQUEST_BODY).await.map_err(|_| ResetConnection)?
    };
    let Reply { response, delay, fault } = sim.arrive(Request::from_parts(parts, body)).await;
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let (mut head, body) = response.into_parts();
    let promise = |head: &mut axum::http::response::Parts, length: usize| {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    };
    let body = match fault {
        None => WireBody::Whole(Some(body)),
        Some(Fault::Refused | Fault::Reset) => return Err(ResetConnection),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Truncated) => {
            promise(&mut head, body.len());
            WireBody::steps([Step::Send(body.slice(..body.len() / 2)), Step::Flush, Step::Break])
        }
        Some(Fault::LyingLength) => {
            promise(&mut head, body.len() + 1000);
            WireBody::steps([Step::Send(body), Step::Flush])
        }
        Some(Fault::Endless) => WireBody::Endless,
        Some(Fault::Drip(pause)) => {
            promise(&mut head, body.len());
            let bytes = (0..body.len()).map(|at| body.slice(at..=at));
            WireBody::steps(bytes.flat_map(|byte| [Step::Send(byte), Step::Pause(pause)]))
        }
    };
    Ok(Response::from_parts(head, body))
}

/// A body as it goes onto the wire.
enum WireBody {
    Whole(Option<Bytes>),
    /// Blanks, for ever: a client that reads JSON has nothing to stop at.
    Endless,
    Steps {
        left: VecDeque<Step>,
        pausing: Option<Pin<Box<Sleep>>>,
    },
}

enum Step {
    Send(Bytes),
    /// Lets what was sent reach the wire before the next step.
    Flush,
    Pause(Duration),
    Break,
}

static BLANKS: [u8; 16 * 1024] = [b' '; 16 * 1024];

impl WireBody {
    fn steps(steps: impl IntoIterator<Item = Step>) -> Self {
        Self::Steps { left: steps.into_iter().collect(), pausing: None }
    }
}

impl Body for WireBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let data = |bytes| Poll::Ready(Some(Ok(Frame::data(bytes))));
        match self.get_mut() {
            Self::Whole(body) => Poll::Ready(body.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Endless => data(Bytes::from_static(&BLANKS)),
            Self::Steps { left, pausing } => loop {
                if let Some(pause) = pausing {
                    ready!(pause.as_mut().poll(context));
                    *pausing = None;
                }
                match left.pop_front() {
                    None => return Poll::Ready(None),
                    Some(Step::Send(bytes)) => return data(bytes),
                    Some(Step::Flush) => {
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Some(Step::Pause(pause)) => *pausing = Some(Box::pin(sleep(pause))),
                    Some(Step::Break) => return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into()))),
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    /// Known only where the body keeps its promise, so that hyper does not notice the others' lie.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Endless | Self::Steps { .. } => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };

    use super::*;
    use crate::{
        clock::Clock,
        sim::{Answer, BAIT, Mix, Plan, Settings},
    };

    const LONG: Duration = Duration::from_secs(30);

    /// Starts a service whose alert `a` is answered so; `b` is always found.
    async fn started(answer: Answer) -> (Sim, SocketAddr) {
        let mut settings = Settings::new(1);
        settings.plan = Plan::new(1, Mix::ALL_FOUND).script("a", vec![answer]);
        let sim = Sim::new(settings, Clock::machine());
        let server = Server::bind(sim.clone(), SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = server.address();
        tokio::spawn(server.run(CancellationToken::new()));
        (sim, address)
    }

    async fn connect(address: SocketAddr, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn token(address: SocketAddr) -> String {
        let form = "client_id=a&client_secret=b&grant_type=client_credentials&scope=x/.default";
        let head = format!(
            "POST /t/oauth2/v2.0/token HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}",
            form.len()
        );
        let (text, _) = read(connect(address, &format!("{head}\r\n\r\n{form}")).await).await;
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// Everything that comes, and how it ends.
    async fn read(mut stream: TcpStream) -> (String, io::Result<()>) {
        let mut bytes = Vec::new();
        let end = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
        (String::from_utf8(bytes).unwrap(), end.map(|_| ()))
    }

    async fn ask(address: SocketAddr, id: &str) -> TcpStream {
        let token = token(address).await;
        let request = format!(
            "GET /api/alerts/{id}/ips HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
        );
        connect(address, &request).await
    }

    #[rstest]
    #[case::found(Answer::Found(vec!["10.0.0.1\t".into()]), "200 OK", r#""value":[{"id":"10.0.0.1\t"}]"#)]
    #[case::empty(Answer::Empty, "200 OK", r#""value":[]"#)]
    #[case::not_found(Answer::NotFound, "404 Not Found", "Alert a not found")]
    #[case::throttled(Answer::throttled(7), "429 Too Many Requests", "retry-after: 7")]
    #[case::unavailable(Answer::status(503), "503 Service Unavailable", "<html>")]
    #[case::redirect(Answer::Redirect { code: 307, location: "http://decoy/".into() }, "307 Temporary Redirect", "location: http://decoy/")]
    #[case::raw(Answer::Raw { code: 200, headers: vec![("x-a".into(), "b".into())], body: "[".into() }, "200 OK", "x-a: b")]
    #[tokio::test]
    async fn answers_stand_on_the_wire(#[case] answer: Answer, #[case] status: &str, #[case] part: &str) {
        let (_, address) = started(answer).await;
        let (text, end) = read(ask(address, "a").await).await;
        end.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}\r\n")) && text.contains(part), "{text}");
    }

    #[tokio::test]
    async fn a_reset_gives_no_byte() {
        let (sim, address) = started(Answer::Broken(Fault::Reset)).await;
        let (text, end) = read(ask(address, "a").await).await;
        assert_eq!((text.as_str(), end.unwrap_err().kind()), ("", io::ErrorKind::ConnectionReset));
        assert_eq!((sim.counts().calls, sim.counts().broken), (1, 1));
    }

    #[rstest]
    #[case::truncated(Fault::Truncated, false)]
    #[case::lying_length(Fault::LyingLength, true)]
    #[tokio::test]
    async fn a_promised_length_is_not_kept(#[case] fault: Fault, #[case] whole: bool) {
        let (_, address) = started(Answer::Broken(fault)).await;
        let (text, _) = read(ask(address, "a").await).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        assert!(!body.is_empty() && body.len() < length.parse().unwrap(), "{text}");
        assert_eq!(body.contains(BAIT) && body.ends_with('}'), whole, "{text}");
    }

    #[tokio::test]
    async fn an_endless_body_goes_on_past_any_cap() {
        let (_, address) = started(Answer::Broken(Fault::Endless)).await;
        let mut stream = ask(address, "a").await;
        let mut bytes = vec![0; 8 << 20];
        timeout(LONG, stream.read_exact(&mut bytes)).await.expect("it goes on").unwrap();
    }

    #[tokio::test]
    async fn a_dripping_body_is_whole_in_the_end() {
        let (_, address) = started(Answer::Broken(Fault::Drip(Duration::from_millis(1)))).await;
        let (text, end) = read(ask(address, "a").await).await;
        end.unwrap();
        assert!(text.contains(BAIT) && text.ends_with('}'), "{text}");
    }

    #[tokio::test]
    async fn a_hanging_call_counts_and_leaves_others_alone() {
        let (sim, address) = started(Answer::Broken(Fault::Hang)).await;
        let mut hanging = ask(address, "a").await;
        let (text, _) = read(ask(address, "b").await).await;
        assert!(text.starts_with("HTTP/1.1 200"), "{text}");
        while sim.counts().calls < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(hanging.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        hanging.shutdown().await.unwrap();
    }

    #[tokio::test]
    async fn a_refusing_service_counts_nothing() {
        let (sim, address) = started(Answer::Empty).await;
        sim.switch(|switches| switches.outage = Some(Outage::Refused));
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The write may be refused already.
        let _ = stream.write_all(b"GET /api/alerts/a/ips HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let (text, _) = read(stream).await;
        assert_eq!((text.as_str(), sim.counts().calls), ("", 0));
    }

    #[tokio::test]
    async fn stopping_closes_every_connection() {
        let sim = Sim::new(Settings::new(1), Clock::machine());
        let server = Server::bind(sim, SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let running = tokio::spawn(server.run(stop.clone()));
        let stream = TcpStream::connect(address).await.unwrap();
        stop.cancel();
        running.await.unwrap();
        assert_eq!(read(stream).await.0, "");
    }
}
