//! A TCP proxy between one instance and the brokers, which can cut and hold what passes, all of it or requests of one kind.
//!
//! Each broker has a listener for each instance and tells its address as the proxy's, so whatever the instance connects to
//! goes through here. Of Kafka's protocol it knows how a frame begins: its length; then of a request its kind, version and
//! number, and of an answer the request's number.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{Mutex as AsyncMutex, watch},
    time::timeout,
};

/// How long a broker may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a broker may take to answer a request that was held and whose sender may be gone.
const LATE_ANSWER: Duration = Duration::from_secs(10);

/// Larger than any frame that Kafka takes by default.
const MOST_BYTES: usize = 128 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    Open,
    /// Connections are closed, new ones too.
    Cut,
    /// Nothing passes, and nobody is told.
    Held,
}

/// Kinds of requests, by the numbers that Kafka gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i16)]
pub enum Kind {
    InitProducerId = 22,
    AddOffsetsToTxn = 25,
    EndTxn = 26,
    TxnOffsetCommit = 28,
}

impl Kind {
    /// The error code in an answer, of the versions that librdkafka asks for; of several partitions the first one's. An answer
    /// begins with its length and its number.
    fn code(self, answer: &[u8]) -> Option<i16> {
        let at = match self {
            // A throttle time.
            Self::InitProducerId | Self::AddOffsetsToTxn | Self::EndTxn => 8 + 4,
            // Tags, a throttle time, the number of topics, a name and its length, the number of partitions, a partition.
            Self::TxnOffsetCommit => 8 + 1 + 4 + 1 + usize::from(*answer.get(14)?) + 1 + 4,
        };
        Some(i16::from_be_bytes(answer.get(at..at + 2)?.try_into().ok()?))
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It reaches the broker when it is let go, and so does what follows on its connection; also where its sender is gone.
    Held,
    /// The same, and the instance sees its connection closed at once, so that it sends another.
    Orphaned,
    /// The broker does what it asks for; the answer waits until it is let go.
    AnswerHeld,
    /// The broker does what it asks for; the connection is closed in place of the answer.
    AnswerLost,
}

/// All of one instance's ways to the brokers.
pub struct Proxy {
    traffic: watch::Sender<Traffic>,
    met: Met,
    /// One for each broker.
    listeners: Vec<StdListener>,
}

/// What is to happen to the next requests of one kind. Dropped, it happens to no more, and what waits is let go.
pub struct Rule(Arc<Meeting>);

struct Meeting {
    kind: Kind,
    fate: Fate,
    left: AtomicUsize,
    met: AtomicUsize,
    let_go: watch::Sender<bool>,
    /// Error codes, as the brokers answered these requests.
    answers: watch::Sender<Vec<i16>>,
}

type Met = Arc<Mutex<Vec<Arc<Meeting>>>>;

impl Proxy {
    pub fn bind(brokers: usize) -> Self {
        let listen = |_| StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let listeners = (0..brokers).map(listen).collect();
        Self { traffic: watch::Sender::new(Traffic::Open), met: Met::default(), listeners }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
    }

    /// Passes on to these, in the order of the brokers.
    pub fn run(&mut self, runtime: &Runtime, brokers: &[SocketAddr]) {
        let _guard = runtime.enter();
        for (listener, broker) in self.listeners.drain(..).zip(brokers) {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            runtime.spawn(accept(listener, *broker, self.traffic.subscribe(), self.met.clone()));
        }
    }

    pub fn set(&self, traffic: Traffic) {
        self.traffic.send_replace(traffic);
    }

    /// This happens to the next `times` requests of a kind.
    pub fn meet(&self, kind: Kind, fate: Fate, times: usize) -> Rule {
        let (let_go, answers) = (watch::Sender::new(false), watch::Sender::default());
        let (left, met) = (AtomicUsize::new(times), AtomicUsize::new(0));
        let meeting = Arc::new(Meeting { kind, fate, left, met, let_go, answers });
        self.met.lock().unwrap().push(meeting.clone());
        Rule(meeting)
    }
}

impl Rule {
    /// To how many requests it has happened.
    pub fn met(&self) -> usize {
        self.0.met.load(Ordering::Relaxed)
    }

    /// What waits goes on, and what comes later does not wait.
    pub fn let_go(&self) {
        self.0.let_go.send_replace(true);
    }

    /// The error codes with which the brokers answered, in order.
    pub fn answers(&self) -> Vec<i16> {
        self.0.answers.borrow().clone()
    }
}

impl Drop for Rule {
    fn drop(&mut self) {
        self.0.left.store(0, Ordering::Relaxed);
        self.let_go();
    }
}

impl Meeting {
    /// The rule for a request, if there is one.
    fn of(met: &Met, request: &[u8]) -> Option<Arc<Self>> {
        let kind = i16::from_be_bytes(request.get(4..6)?.try_into().ok()?);
        let met = met.lock().unwrap();
        let meeting = met.iter().find(|meeting| {
            let one_less = |left: usize| left.checked_sub(1);
            meeting.kind as i16 == kind
                && meeting.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
        })?;
        meeting.met.fetch_add(1, Ordering::Relaxed);
        Some(meeting.clone())
    }

    async fn is_let_go(&self) {
        let _ = self.let_go.subscribe().wait_for(|let_go| *let_go).await;
    }

    fn answered(&self, answer: &[u8]) {
        self.answers.send_modify(|answers| answers.extend(self.kind.code(answer)));
    }
}

async fn accept(listener: TcpListener, broker: SocketAddr, traffic: watch::Receiver<Traffic>, met: Met) {
    loop {
        match listener.accept().await {
            Ok((client, _)) if *traffic.borrow() != Traffic::Cut => {
                tokio::spawn(carry(client, broker, traffic.clone(), met.clone()));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One connection.
struct Link {
    traffic: watch::Receiver<Traffic>,
    to_client: AsyncMutex<OwnedWriteHalf>,
    /// Requests that a rule was for and that are not answered, by their numbers.
    awaited: Mutex<HashMap<[u8; 4], Arc<Meeting>>>,
    /// Whether the instance takes it for closed.
    orphaned: AtomicBool,
}

/// Carries one connection until either side closes it, or it is cut.
async fn carry(client: TcpStream, broker: SocketAddr, mut traffic: watch::Receiver<Traffic>, met: Met) {
    let Ok(Ok(upstream)) = timeout(CONNECT, TcpStream::connect(broker)).await else { return };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_broker, to_broker) = upstream.into_split();
    let link = Link {
        traffic: traffic.clone(),
        to_client: AsyncMutex::new(to_client),
        awaited: Mutex::default(),
        orphaned: AtomicBool::new(false),
    };
    tokio::select! {
        _ = link.requests(from_client, to_broker, met) => {}
        _ = link.answers(from_broker) => {}
        _ = traffic.wait_for(|traffic| *traffic == Traffic::Cut) => {}
    }
}

impl Link {
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, met: Met) -> Option<()> {
        loop {
            let request = frame(&mut from).await?;
            self.may_pass().await;
            let Some(meeting) = Meeting::of(&met, &request) else {
                to.write_all(&request).await.ok()?;
                continue;
            };
            self.awaited.lock().unwrap().insert(request.get(8..12)?.try_into().ok()?, meeting.clone());
            let waits = matches!(meeting.fate, Fate::Held | Fate::Orphaned);
            if meeting.fate == Fate::Orphaned {
                self.orphaned.store(true, Ordering::Relaxed);
                let _ = self.to_client.lock().await.shutdown().await;
            }
            let mut answers = meeting.answers.subscribe();
            if waits {
                meeting.is_let_go().await;
            }
            let before = answers.borrow_and_update().len();
            to.write_all(&request).await.ok()?;
            if waits {
                // Its sender may have closed its side, which would be read next and end this connection.
                let _ = timeout(LATE_ANSWER, answers.wait_for(|answers| answers.len() > before)).await;
            }
        }
    }

    async fn answers(&self, mut from: OwnedReadHalf) -> Option<()> {
        loop {
            let answer = frame(&mut from).await?;
            self.may_pass().await;
            let meeting = answer.get(4..8).and_then(|number| self.awaited.lock().unwrap().remove(number));
            if let Some(meeting) = meeting {
                meeting.answered(&answer);
                match meeting.fate {
                    Fate::AnswerHeld => meeting.is_let_go().await,
                    Fate::AnswerLost => return None,
                    Fate::Held | Fate::Orphaned => {}
                }
            }
            let sent = self.to_client.lock().await.write_all(&answer).await;
            if !self.orphaned.load(Ordering::Relaxed) {
                sent.ok()?;
            }
        }
    }

    async fn may_pass(&self) {
        let _ = self.traffic.clone().wait_for(|traffic| *traffic != Traffic::Held).await;
    }
}

/// The next frame, with its length; none where the connection has ended.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    let bytes = usize::try_from(length).ok().filter(|bytes| *bytes <= MOST_BYTES)?;
    let mut frame = vec![0; 4 + bytes];
    frame[..4].copy_from_slice(&length.to_be_bytes());
    from.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
    };

    use super::*;

    /// A request that ends a transaction, number 7, and its answer, which is error 5.
    const REQUEST: [u8; 12] = [0, 0, 0, 8, 0, 26, 0, 1, 0, 0, 0, 7];
    const ANSWER: [u8; 14] = [0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 5];

    struct Pair {
        proxy: Proxy,
        client: TcpStream,
        server: TcpStream,
        address: SocketAddr,
        _runtime: Runtime,
    }

    fn pair() -> Pair {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let mut proxy = Proxy::bind(1);
        let address = proxy.addresses()[0];
        proxy.run(&runtime, &[listener.local_addr().unwrap()]);
        let client = TcpStream::connect(address).unwrap();
        let (server, _) = listener.accept().unwrap();
        Pair { proxy, client, server, address, _runtime: runtime }
    }

    fn comes(stream: &mut TcpStream, expected: &[u8]) -> bool {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = vec![0; expected.len()];
        stream.read_exact(&mut bytes).is_ok() && bytes == expected
    }

    fn is_quiet(stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        matches!(stream.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    }

    fn is_closed(stream: &mut TcpStream) -> bool {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        matches!(stream.read(&mut [0]), Ok(0) | Err(_)) && !is_quiet(stream)
    }

    #[test]
    fn traffic_passes_is_held_and_is_cut() {
        let Pair { proxy, client, server, address, .. } = &mut pair();
        client.write_all(&REQUEST).unwrap();
        assert!(comes(server, &REQUEST));
        proxy.set(Traffic::Held);
        server.write_all(&ANSWER).unwrap();
        assert!(is_quiet(client), "it is held");
        proxy.set(Traffic::Open);
        assert!(comes(client, &ANSWER));

        proxy.set(Traffic::Cut);
        assert!(is_closed(client));
        assert!(is_closed(&mut TcpStream::connect(*address).unwrap()), "it is closed at once");
    }

    #[test]
    fn a_request_of_a_kind_is_held_and_what_follows_it() {
        let Pair { proxy, client, server, .. } = &mut pair();
        let rule = proxy.meet(Kind::EndTxn, Fate::Held, 1);
        client.write_all(&REQUEST).unwrap();
        client.write_all(&[0, 0, 0, 1, 9]).unwrap();
        assert!(is_quiet(server) && rule.met() == 1);
        rule.let_go();
        assert!(comes(server, &REQUEST));
        server.write_all(&ANSWER).unwrap();
        assert!(comes(server, &[0, 0, 0, 1, 9]) && comes(client, &ANSWER));
        assert_eq!(rule.answers(), [5]);
        client.write_all(&REQUEST).unwrap();
        assert!(comes(server, &REQUEST), "it was for one");
    }

    #[test]
    fn a_request_reaches_the_broker_when_its_connection_is_closed_for_the_instance() {
        let Pair { proxy, client, server, .. } = &mut pair();
        let rule = proxy.meet(Kind::EndTxn, Fate::Orphaned, 1);
        client.write_all(&REQUEST).unwrap();
        assert!(is_closed(client) && is_quiet(server));
        client.shutdown(std::net::Shutdown::Both).unwrap();
        rule.let_go();
        assert!(comes(server, &REQUEST));
        server.write_all(&ANSWER).unwrap();
        crate::harness::eventually("it is answered", LATE_ANSWER, || (rule.answers() == [5]).then_some(()));
    }

    #[test]
    fn an_answer_is_held_or_lost() {
        let Pair { proxy, client, server, .. } = &mut pair();
        let rule = proxy.meet(Kind::EndTxn, Fate::AnswerHeld, 1);
        client.write_all(&REQUEST).unwrap();
        assert!(comes(server, &REQUEST));
        server.write_all(&ANSWER).unwrap();
        assert!(is_quiet(client));
        rule.let_go();
        assert!(comes(client, &ANSWER));

        let _rule = proxy.meet(Kind::EndTxn, Fate::AnswerLost, 1);
        client.write_all(&REQUEST).unwrap();
        assert!(comes(server, &REQUEST));
        server.write_all(&ANSWER).unwrap();
        assert!(is_closed(client));
    }
}
