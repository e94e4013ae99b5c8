//! The service as a state machine: a request and the time go in, a reply comes out.
//!
//! It holds the caller to everything the real service would, and to more: its limits hold for every alignment of the
//! windows, refused calls count, and what should never be asked is written down as a violation.

use std::{collections::HashMap, io, time::Duration};

use axum::http::{HeaderValue, Method, Request, header};
use bytes::Bytes;
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    Now,
    answer::{Answer, Asked, Fault, Reply, RetryAfter},
    calls::{Call, Records, Violation, Wrong},
    latency::Latency,
    oracle::{Window, Windows},
    plan::{Mix, Plan},
    sign_in::{Client, SignIn, SignInAnswer, TokenProblem},
};
use crate::domain::{alert::AlertId, limit::Limit, time::BootTime};

/// What a simulated service is made of.
pub struct Settings {
    /// For the latencies; the plan has its own.
    pub seed: u64,
    /// Enforced; none means that every call is permitted.
    pub limits: Vec<Limit>,
    pub plan: Plan,
    pub latency: Latency,
    /// Who may sign in; empty means anyone.
    pub clients: Vec<Client>,
    pub token_lifetime: Duration,
    /// How many of the newest calls are kept to be looked at. All are counted.
    pub keep_calls: usize,
    /// Takes one JSON object a line for each request.
    pub log: Option<Box<dyn io::Write + Send>>,
}

impl Settings {
    /// The documented limits and a good day's answers.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            limits: ["100 per 1m", "1500 per 1h"].iter().filter_map(|text| text.parse().ok()).collect(),
            plan: Plan::new(seed, Mix::REALISTIC),
            latency: Latency::None,
            clients: Vec::new(),
            token_lifetime: Duration::from_secs(3599),
            keep_calls: 1_000_000,
            log: None,
        }
    }
}

/// What can be changed while the service runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    pub outage: Option<Outage>,
    pub sign_in_outage: Option<Outage>,
    /// 403 for every call.
    pub forbid: bool,
    /// 429 for every call until then.
    pub frozen_until: Option<BootTime>,
    pub latency: Latency,
}

/// How a dead service looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outage {
    /// Nobody listens. Such calls reach nothing and count nowhere.
    Refused,
    /// A gateway answers 503.
    Unavailable,
}

/// The whole service.
pub struct SimService {
    pub(super) switches: Switches,
    pub(super) sign_in: SignIn,
    pub(super) records: Records,
    plan: Plan,
    windows: Windows,
    /// The latest arrival; time never goes back for the windows.
    latest: BootTime,
    counts: Counts,
    /// How often each alert was answered, for those whose answers change.
    answered: HashMap<Box<str>, usize>,
    rng: SmallRng,
}

/// What the service has seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests to the API, refused ones included.
    pub calls: u64,
    /// Answers of the API by status.
    pub by_status: std::collections::BTreeMap<u16, u64>,
    /// Calls whose connection was broken instead of answered.
    pub broken: u64,
    /// Requests to the sign-in.
    pub sign_ins: u64,
    pub violations: u64,
}

impl SimService {
    pub fn new(settings: Settings) -> Self {
        Self {
            switches: Switches { latency: settings.latency, ..Switches::default() },
            sign_in: SignIn::new(settings.clients, settings.token_lifetime),
            records: Records::new(settings.keep_calls, settings.log),
            plan: settings.plan,
            windows: Windows::new(settings.limits),
            latest: BootTime::default(),
            counts: Counts::default(),
            answered: HashMap::new(),
            rng: SmallRng::seed_from_u64(settings.seed),
        }
    }

    /// Takes a request that arrives at `now`.
    pub fn handle(&mut self, now: Now, request: &Request<Bytes>) -> Reply {
        self.latest = self.latest.max(now.boot);
        let now = Now { boot: self.latest, ..now };
        let mut reply = match SignIn::tenant(request.uri().path()) {
            Some(tenant) => self.handle_sign_in(now, tenant, request),
            None => self.handle_call(now, request),
        };
        reply.delay += self.draw_leg();
        reply
    }

    /// How long the next call is on the wire before it arrives.
    pub fn draw_leg(&mut self) -> Duration {
        self.switches.latency.draw_leg(&mut self.rng)
    }

    /// Every limit's window at `now`, with the fullest there has been.
    pub fn windows(&self, now: BootTime) -> Vec<Window> {
        self.windows.at(now.max(self.latest)).collect()
    }

    pub fn counts(&self) -> Counts {
        Counts { sign_ins: self.sign_in.calls, violations: self.records.violation_count, ..self.counts.clone() }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The newest calls, oldest first.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.records.calls.iter()
    }

    /// The first violations, at most a thousand of them.
    pub fn violations(&self) -> &[Violation] {
        &self.records.violations
    }

    /// Answers the next sign-ins as given, then genuinely again.
    pub fn script_sign_in(&mut self, answers: impl IntoIterator<Item = SignInAnswer>) {
        self.sign_in.script.extend(answers);
    }

    fn handle_sign_in(&mut self, now: Now, tenant: &str, request: &Request<Bytes>) -> Reply {
        let reply = match self.switches.sign_in_outage {
            None => self.sign_in.handle(now, tenant, request),
            Some(outage) => {
                self.sign_in.calls += 1;
                of_outage(outage).reply(&asked(now, request, ""))
            }
        };
        self.records.add_sign_in(now.wall, request.uri().path(), user_agent(request), status(&reply));
        reply
    }

    fn handle_call(&mut self, now: Now, request: &Request<Bytes>) -> Reply {
        let path = request.uri().path();
        if let Some(outage @ Outage::Refused) = self.switches.outage {
            return of_outage(outage).reply(&asked(now, request, ""));
        }
        self.windows.arrive(now.boot);
        let windows: Box<[Window]> = self.windows.at(now.boot).collect();
        let id = alert_id(path).filter(|_| request.method() == Method::GET);
        let mut wrongs: Vec<_> = windows.iter().filter_map(over_the_limit).collect();
        let answer = match (id, wrongs.first()) {
            (None, _) => {
                wrongs.push(Wrong::UnexpectedPath);
                Answer::status(404)
            }
            (Some(_), Some(&Wrong::OverTheLimit { limit, .. })) => self.throttled(now.boot, limit),
            (Some(id), _) => self.answer(now.boot, id, request),
        };
        let mut reply = answer.reply(&Asked {
            target: format!("00000000-0000-4000-8000-{:012x}", self.counts.calls),
            ..asked(now, request, id.unwrap_or_default())
        });
        if reply.response.status() == 401 {
            reply.response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        self.count(&reply);
        let call = Call {
            at: now.boot,
            wall: now.wall,
            path: path.into(),
            instance: user_agent(request).map(Into::into),
            status: status(&reply),
            windows,
        };
        self.records.add(call, wrongs);
        reply
    }

    /// The answer to a permitted call about a well-formed id.
    fn answer(&mut self, now: BootTime, id: &str, request: &Request<Bytes>) -> Answer {
        if let Some(outage) = self.switches.outage {
            return of_outage(outage);
        }
        match self.sign_in.check(now, request) {
            Err(TokenProblem::Invalid) => return Answer::status(401),
            Err(TokenProblem::NoPermission) => return Answer::status(403),
            Ok(()) if self.switches.forbid => return Answer::status(403),
            Ok(()) => {}
        }
        if let Some(left) = self.switches.frozen_until.map(|until| until.saturating_since(now)).filter(|l| !l.is_zero())
        {
            return Answer::throttled(whole_seconds(left));
        }
        let answers = self.plan.answers(id);
        if let [only] = answers.as_ref() {
            return only.clone();
        }
        // A further page belongs to the answer that linked to it.
        let is_first_page = page(request) == 0;
        let earlier = match self.answered.get_mut(id) {
            Some(count) if is_first_page => std::mem::replace(count, *count + 1),
            Some(count) => count.saturating_sub(1),
            None => {
                self.answered.insert(id.into(), 1);
                0
            }
        };
        answers[earlier.min(answers.len() - 1)].clone()
    }

    fn throttled(&self, now: BootTime, limit: Limit) -> Answer {
        let retry_after = RetryAfter::Seconds(whole_seconds(self.windows.room_in(now)));
        Answer::TooManyRequests { retry_after, window: Some(limit) }
    }

    fn count(&mut self, reply: &Reply) {
        self.counts.calls += 1;
        match status(reply) {
            Some(code) => *self.counts.by_status.entry(code).or_default() += 1,
            None => self.counts.broken += 1,
        }
    }
}

/// The alert id of `/api/alerts/{id}/ips`, or `None` for every other path.
fn alert_id(path: &str) -> Option<&str> {
    let id = path.strip_prefix("/api/alerts/")?.strip_suffix("/ips")?;
    AlertId::parse(id).is_ok().then_some(id)
}

fn over_the_limit(window: &Window) -> Option<Wrong> {
    let Window { limit, calls, .. } = *window;
    (calls > limit.calls.get() as usize).then_some(Wrong::OverTheLimit { limit, calls })
}

fn of_outage(outage: Outage) -> Answer {
    match outage {
        Outage::Refused => Answer::Broken(Fault::Refused),
        Outage::Unavailable => Answer::status(503),
    }
}

/// Rounded up: who waits so long finds room.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn status(reply: &Reply) -> Option<u16> {
    reply.fault.is_none().then(|| reply.response.status().as_u16())
}

fn user_agent(request: &Request<Bytes>) -> Option<&str> {
    request.headers().get(header::USER_AGENT)?.to_str().ok()
}

fn page(request: &Request<Bytes>) -> usize {
    let query = request.uri().query().unwrap_or_default();
    query.strip_prefix("$skip=").and_then(|page| page.parse().ok()).unwrap_or_default()
}

fn asked<'a>(now: Now, request: &Request<Bytes>, id: &'a str) -> Asked<'a> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    let scheme = request.uri().scheme_str().unwrap_or("http");
    let origin = format!("{scheme}://{}", authority.or(host).unwrap_or("localhost"));
    Asked { id, origin, page: page(request), wall: now.wall, target: String::new() }
}
