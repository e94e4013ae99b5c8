//! The simulated network between an instance and the service: slow, lossy, and blind to whether the caller still lives.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alert_ips::{
    defender::transport::{HttpFailure, HttpRequest, HttpResponse, Transport},
    sim::{Fault, Latency, Reply, Sim},
};
use axum::http::{Request, header};
use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use secrecy::ExposeSecret;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::gate::Gate;
use crate::world::{CALL_TIMEOUT, read};

/// The latest that a request arrives after it has left, also where its caller has given up long before.
const LATEST_ARRIVAL: Duration = Duration::from_secs(34);

/// Calls that may leave after their last check, by the whole fleet within an hour: as many slots stay free for them.
const MOST_LATE: usize = 8;

/// What goes wrong between an instance and the service, as probabilities for each call.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NetworkFaults {
    /// Each way.
    pub(super) way: Latency,
    /// Takes up to [`LATEST_ARRIVAL`] to get there.
    pub(super) slow: f64,
    /// The caller sees a broken connection at once; the call arrives all the same.
    pub(super) broken: f64,
    /// No connection; nothing arrives.
    pub(super) refused: f64,
    /// The process is killed as it sends: before, or just after, the request leaves.
    pub(super) killed: f64,
    /// The process is stopped between the last check of the permit and the write.
    pub(super) stopped: f64,
}

impl NetworkFaults {
    /// What is left of them when nothing goes wrong any more.
    fn until(self, calm: Instant) -> Self {
        if Instant::now() < calm { self } else { Self { way: self.way, ..Self::default() } }
    }
}

/// One call, as the network saw it. Times count from the run's beginning.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) instance: usize,
    pub(super) alert: Box<str>,
    pub(super) left: Duration,
    /// Whether a stop came between its last check and its leaving.
    pub(super) late: bool,
    /// When it was answered, or given up by its caller.
    pub(super) over: Option<Duration>,
}

/// All calls of a run.
#[derive(Clone)]
pub(super) struct Flights {
    started: Instant,
    flights: Arc<Mutex<Vec<Flight>>>,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { started: Instant::now(), flights: Arc::default() }
    }

    pub(super) fn all(&self) -> Vec<Flight> {
        self.flights.lock().unwrap().clone()
    }

    fn leaves(&self, instance: usize, alert: &str, late: bool) -> usize {
        let mut flights = self.flights.lock().unwrap();
        flights.push(Flight { instance, alert: alert.into(), left: self.started.elapsed(), late, over: None });
        flights.len() - 1
    }

    fn over(&self, flight: Option<usize>) {
        let Some(flight) = flight else { return };
        self.flights.lock().unwrap()[flight].over.get_or_insert(self.started.elapsed());
    }

    /// Whether one more call may leave late: what the rule leaves room for.
    fn may_be_late(&self) -> bool {
        let flights = self.flights.lock().unwrap();
        let now = self.started.elapsed();
        let lately =
            flights.iter().rev().take_while(|flight| now.saturating_sub(flight.left) < Duration::from_hours(1));
        lately.filter(|flight| flight.late).count() < MOST_LATE
    }
}

/// One instance's way to the service.
pub(super) struct SimNetwork {
    pub(super) sim: Sim,
    pub(super) gate: Gate,
    pub(super) faults: NetworkFaults,
    /// From when on nothing goes wrong any more.
    pub(super) calm: Instant,
    pub(super) flights: Flights,
    pub(super) instance: usize,
    pub(super) random: Mutex<SmallRng>,
}

/// What will become of one call.
struct Fate {
    there: Duration,
    back: Duration,
    broken: Option<Duration>,
    refused: bool,
    killed: Option<Duration>,
    killed_after_leaving: bool,
    stopped: Option<Duration>,
}

impl SimNetwork {
    pub(super) fn random(seed: u64) -> Mutex<SmallRng> {
        Mutex::new(SmallRng::seed_from_u64(seed))
    }

    fn draw(&self) -> Fate {
        let (faults, random) = (self.faults.until(self.calm), &mut *self.random.lock().unwrap());
        let within = |random: &mut SmallRng, most: Duration| most.mul_f64(random.random());
        let slow = random.random_bool(faults.slow).then(|| within(random, LATEST_ARRIVAL));
        Fate {
            there: slow.unwrap_or_else(|| faults.way.draw_leg(random)),
            back: faults.way.draw_leg(random),
            broken: random.random_bool(faults.broken).then(|| within(random, Duration::from_secs(5))),
            refused: random.random_bool(faults.refused),
            killed: random.random_bool(faults.killed).then(|| within(random, Duration::from_mins(2))),
            killed_after_leaving: random.random(),
            stopped: random.random_bool(faults.stopped).then(|| within(random, Duration::from_mins(3))),
        }
    }

    /// Sends a request on its way; it arrives whatever becomes of the caller.
    fn leave(&self, request: Request<Bytes>, fate: &Fate, flight: Option<usize>) -> oneshot::Receiver<Answer> {
        let (deliver, answer) = oneshot::channel();
        let (sim, flights) = (self.sim.clone(), self.flights.clone());
        let (arrives, back) = (Instant::now() + fate.there, fate.back);
        tokio::spawn(async move {
            sleep_until(arrives).await;
            let reply = sim.handle(&request);
            sleep(reply.delay + back).await;
            let answer = received(reply).await;
            flights.over(flight);
            let _ = deliver.send(answer);
        });
        answer
    }
}

type Answer = Result<HttpResponse, HttpFailure>;

impl Transport for SimNetwork {
    async fn send(&self, request: HttpRequest) -> Answer {
        let fate = self.draw();
        if fate.refused {
            sleep(fate.back).await;
            return Err(HttpFailure::Connect("connection refused".into()));
        }
        let (request, alert) = self.written(request);
        if let Some(lasts) = fate.stopped.filter(|_| alert.is_some() && self.flights.may_be_late()) {
            self.gate.stop_for(lasts);
        }
        if let Some(down) = fate.killed {
            self.gate.kill(down);
        }
        if fate.killed.is_none() || !fate.killed_after_leaving {
            // Never passed by a process that was killed.
            self.pass_and_leave(request, alert, fate).await
        } else {
            let flight = alert.map(|alert| self.flights.leaves(self.instance, &alert, false));
            self.leave(request, &fate, flight);
            std::future::pending().await
        }
    }
}

impl SimNetwork {
    async fn pass_and_leave(&self, request: Request<Bytes>, alert: Option<Box<str>>, fate: Fate) -> Answer {
        let late = self.gate.pass().await;
        let flight = alert.map(|alert| self.flights.leaves(self.instance, &alert, late));
        let mut answer = self.leave(request, &fate, flight);
        let seen = match fate.broken {
            Some(breaks) => timeout(breaks, &mut answer).await.unwrap_or(Ok(Err(broken()))),
            None => timeout(CALL_TIMEOUT, &mut answer).await.unwrap_or(Ok(Err(HttpFailure::Timeout(CALL_TIMEOUT)))),
        };
        self.flights.over(flight);
        // A process that was stopped meanwhile finds the answer and the timeout, and takes the answer.
        if self.gate.pass().await
            && let Ok(found) = answer.try_recv()
        {
            return found;
        }
        seen.unwrap_or_else(|_| Err(broken()))
    }

    fn written(&self, request: HttpRequest) -> (Request<Bytes>, Option<Box<str>>) {
        let alert = about(&request);
        match request {
            HttpRequest::Get { url, bearer } => {
                let request = Request::get(url.as_str())
                    .header(header::AUTHORIZATION, format!("Bearer {}", bearer.expose_secret()))
                    .header(header::USER_AGENT, self.instance.to_string())
                    .body(Bytes::new());
                (request.unwrap(), alert)
            }
            HttpRequest::PostForm { url, form } => {
                let request = Request::post(url.as_str())
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(Bytes::copy_from_slice(form.expose_secret().as_bytes()));
                (request.unwrap(), None)
            }
        }
    }
}

/// The alert that a call asks about; `None` for a sign-in.
pub(super) fn about(request: &HttpRequest) -> Option<Box<str>> {
    let HttpRequest::Get { url, .. } = request else { return None };
    let alert = url.path().strip_prefix("/api/alerts/").and_then(|rest| rest.strip_suffix("/ips"));
    Some(alert.unwrap_or("another path").into())
}

fn broken() -> HttpFailure {
    HttpFailure::Broken("connection reset".into())
}

/// What the caller sees of a reply.
async fn received(reply: Reply) -> Answer {
    match reply.fault {
        None => Ok(read(&reply.response)),
        Some(Fault::Refused) => Err(HttpFailure::Connect("connection refused".into())),
        Some(Fault::Reset) => Err(broken()),
        Some(Fault::Truncated | Fault::LyingLength) => Err(HttpFailure::Truncated("end of file".into())),
        Some(Fault::Endless) => Err(HttpFailure::TooLarge),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Drip(_)) => Err(HttpFailure::SlowBody(CALL_TIMEOUT)),
    }
}
