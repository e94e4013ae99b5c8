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
