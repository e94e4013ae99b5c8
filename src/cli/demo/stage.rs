//! The run itself: one loop that writes what the script says, takes in what comes out, and shows it.

use std::{collections::BTreeMap, future::Future, net::SocketAddr, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    DemoError,
    broker::{Event, Reader, Writer},
    checks::{Drain, Facts, FreezeSeen},
    ledger::{Due, Ledger, Written},
    script::{MIX, Scale, Script, Step},
    show::{Became, Picture, Show, Shown, Tally, counted},
};
use crate::{
    cli::signals::StopSignals,
    clock::Clock,
    daemon::Daemon,
    domain::{output::OutputFormat, time::BootTime},
    observe::{health::Health, snapshot::Watches, status::AccountStatus},
    sim::{self, Latency, Plan, Sim, http::Server},
};

/// News that may wait to be taken in.
const EVENTS: usize = 1024;

/// How often the show is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// How long after a freeze a High alert may still wait because of it.
const FREEZE_AFTERMATH: SignedDuration = SignedDuration::from_secs(1);

/// Why the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Answered,
    TimeIsUp,
    Asked,
}

impl End {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Answered => "every alert is decided; what the demo claims, checked:",
            Self::TimeIsUp => "time is up, with alerts still waiting for calls; what the demo claims, checked:",
            Self::Asked => "ended early, as asked; what the demo claims, checked:",
        }
    }
}

/// Everything on the stage but the daemon. This loop owns all of it.
pub(super) struct Stage<'p> {
    total: Duration,
    scale: Scale,
    clock: Clock,
    began: BootTime,
    /// When the daemon was ready: the script's times count from then.
    ready: Option<BootTime>,
    sim: Sim,
    plan: Plan,
    watches: Watches,
    health: Health,
    signals: StopSignals,
    writer: Writer,
    reader: Reader,
    events: mpsc::Receiver<Event>,
    script: Script,
    next: Option<Step>,
    in_storm: bool,
    /// Messages handed to the writer and not yet in the topic.
    under_way: usize,
    freeze: Option<Freeze>,
    ledger: Ledger,
    tally: Tally,
    act: String,
    show: Show<'p>,
}

/// When the service throttles everyone.
#[derive(Clone, Copy)]
struct Freeze {
    from: BootTime,
    until: BootTime,
    /// As `from`, for comparing with Kafka timestamps.
    wall: Timestamp,
    over: bool,
}

impl<'p> Stage<'p> {
    /// Starts everything.
    pub(super) async fn set(
        seed: u64,
        total: Duration,
        scale: Scale,
        servers: &str,
        format: Option<OutputFormat>,
        mut show: Show<'p>,
    ) -> Result<(Self, Daemon), DemoError> {
        const ACT: &str = "starting: joining the consumer group, for which the embedded broker takes 3 s";
        show.announce(Duration::ZERO, ACT);
        let clock = Clock::machine();
        let began = clock.boot();
        let signals = StopSignals::new().map_err(DemoError::Signals)?;
        let plan = Plan::new(seed, MIX);
        let sim = simulated_service(seed, &scale, plan.clone(), &clock);
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(sim.clone(), here).await.map_err(DemoError::Listen)?;
        let settings = super::settings(&scale, servers, &server.origin(), format)?;
        // Never stopped: it ends with the process.
        tokio::spawn(server.run(CancellationToken::new()));
        let (sender, events) = mpsc::channel(EVENTS);
        let writer = Writer::start(servers, sender.clone())?;
        let reader = Reader::start(servers, sender)?;
        let daemon = Daemon::start(&settings).await?;
        let mut script = Script::new(seed, clock.wall(), scale.clone());
        let mut stage = Self {
            total,
            scale,
            clock,
            began,
            ready: None,
            sim,
            plan,
            watches: daemon.watches().clone(),
            health: daemon.health().clone(),
            signals,
            writer,
            reader,
            events,
            next: script.next_step(),
            script,
            in_storm: false,
            under_way: 0,
            freeze: None,
            ledger: Ledger::default(),
            tally: Tally::default(),
            act: ACT.to_owned(),
            show,
        };
        stage.draw()?;
        Ok((stage, daemon))
    }

    /// Plays the script, stops the daemon, and gathers what was left behind.
    pub(super) async fn perform(mut self, mut daemon: Daemon) -> Result<(Facts, End), DemoError> {
        let end = self.play(&mut daemon).await?;
        let ended = self.clock.wall();
        self.announce("stopping: calls on the wire finish, outputs are acknowledged, offsets are committed");
        self.draw()?;
        let stopping = self.clock.boot();
        let unfinished = self.while_taking_in(daemon.stop()).await?;
        let drain = Drain { took: self.clock.boot().saturating_since(stopping), unfinished };
        self.reader.finish();
        let committed = self.rest().await?;
        let freeze = self.freeze.and_then(|freeze| {
            let until = SignedDuration::try_from(freeze.until.saturating_since(freeze.from)).ok()? + FREEZE_AFTERMATH;
            Some((freeze.wall, freeze.wall.saturating_add(until).ok()?))
        });
        let facts = Facts {
            audit: self.ledger.audit(&committed),
            waits: self.ledger.waits(freeze, ended),
            cut_short: end != End::Answered,
            overloaded: self.scale.needs() > self.total,
            windows: self.sim.windows(),
            violations: self.sim.violations(),
            freeze: self.freeze.map(|freeze| self.seen(freeze)),
            drain,
        };
        Ok((facts, end))
    }

    /// Until everything is answered, the time is up, or someone asks to end.
    async fn play(&mut self, daemon: &mut Daemon) -> Result<End, DemoError> {
        let mut tick = tokio::time::interval(DRAW_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let cue = self.cue_in();
            tokio::select! {
                Some(event) = self.events.recv() => self.take(event).map(|_| ())?,
                () = sleep(cue) => self.cue()?,
                _ = tick.tick() => {
                    self.draw()?;
                    if self.show.is_asked_to_end()? {
                        return Ok(End::Asked);
                    }
                    if self.is_over() {
                        return Ok(End::Answered);
                    }
                    if self.elapsed() >= self.total {
                        return Ok(End::TimeIsUp);
                    }
                }
                _ = self.signals.next() => return Ok(End::Asked),
                _ = daemon.failed() => return Err(DemoError::Ended),
            }
        }
    }

    /// Goes on taking in and showing while `work` is done; who asks again to end does not wait for it.
    async fn while_taking_in<T>(&mut self, work: impl Future<Output = T>) -> Result<T, DemoError> {
        tokio::pin!(work);
        let mut tick = tokio::time::interval(DRAW_EVERY);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                Some(event) = self.events.recv() => self.take(event).map(|_| ())?,
                _ = tick.tick() => {
                    self.draw()?;
                    if self.show.is_asked_to_end()? {
                        return Err(DemoError::AtOnce);
                    }
                }
                _ = self.signals.next() => return Err(DemoError::AtOnce),
            }
        }
    }

    /// Takes in what is still to come; returns the first offset of each partition that is not committed.
    async fn rest(&mut self) -> Result<BTreeMap<i32, i64>, DemoError> {
        while let Some(event) = self.events.recv().await {
            if let Some(committed) = self.take(event)? {
                return Ok(committed);
            }
        }
        Err(DemoError::Message("the reader ended".to_owned()))
    }

    /// How long until the script or the service has something to do; `None` for never.
    fn cue_in(&self) -> Option<Duration> {
        let at = |time: Duration| self.ready.map(|ready| ready + time);
        let write = self.next.as_ref().and_then(|step| at(step.at));
        let freeze = match &self.freeze {
            None => self.scale.freeze.and_then(|(time, _)| at(time)),
            Some(freeze) => (!freeze.over).then_some(freeze.until),
        };
        let next = write.into_iter().chain(freeze).min()?;
        Some(next.saturating_since(self.clock.boot()))
    }

    fn cue(&mut self) -> Result<(), DemoError> {
        let Some(ready) = self.ready else { return Ok(()) };
        let now = self.clock.boot();
        let time = now.saturating_since(ready);
        match (self.freeze, self.scale.freeze) {
            (None, Some((at, lasts))) if at <= time => self.begin_freeze(lasts),
            (Some(freeze), _) if !freeze.over && freeze.until <= now => self.end_freeze(freeze),
            _ => {}
        }
        if let Some(step) = self.next.take_if(|step| step.at <= time) {
            self.write(step)?;
        }
        Ok(())
    }

    fn write(&mut self, step: Step) -> Result<(), DemoError> {
        let begins_storm = step.in_storm && !self.in_storm;
        self.in_storm |= step.in_storm;
        if begins_storm {
            let storm = self.scale.storm_alerts();
            let storm = counted(storm as usize, "minor alert");
            self.announce(&format!("a storm: {storm} at once; high ones that follow still go first"));
        }
        match self.writer.write(self.clock.wall(), step)? {
            None => {
                self.under_way += 1;
                self.next = self.script.next_step();
            }
            full => self.next = full,
        }
        if self.next.is_none() {
            self.announce("every alert is written; those that wait are answered as the limits allow");
        }
        Ok(())
    }

    fn begin_freeze(&mut self, lasts: Duration) {
        let mut from = self.clock.boot();
        self.sim.switch(|switches| {
            // Between two calls, so that each is clearly before or within the freeze.
            from = self.clock.boot();
            switches.frozen_until = Some(from + lasts);
        });
        self.freeze = Some(Freeze { from, until: from + lasts, wall: self.clock.wall(), over: false });
        self.announce(&format!(
            "the service throttles: for {} s every call gets a 429 and is to wait",
            lasts.as_secs()
        ));
    }

    fn end_freeze(&mut self, freeze: Freeze) {
        self.freeze = Some(Freeze { over: true, ..freeze });
        self.announce("the service answers again, and the daemon goes on by itself");
    }

    /// The calls of a freeze, as the service saw them.
    fn seen(&self, freeze: Freeze) -> FreezeSeen {
        let within = self.sim.calls().iter().filter(|call| freeze.from < call.at && call.at < freeze.until).count();
        FreezeSeen {
            calls: within,
            in_flight: self.scale.max_in_flight,
            lasted: freeze.until.saturating_since(freeze.from),
        }
    }

    /// Takes in what the clients report; returns what is committed, once that is the last there is.
    fn take(&mut self, event: Event) -> Result<Option<BTreeMap<i32, i64>>, DemoError> {
        match event {
            Event::Written { place, at, step } => {
                self.under_way -= 1;
                let due = Due::of(&step.message, &self.plan);
                self.ledger.written(place, Written { at, in_storm: step.in_storm, shape: step.message.shape, due });
            }
            Event::Failed(words) => return Err(DemoError::Message(words)),
            Event::Output(place, output) => {
                let written = self.ledger.find(place);
                let alert = written.and_then(|written| written.alert(&output.alert_id));
                self.show(Shown {
                    severity: alert.map(|alert| alert.severity),
                    about: output.alert_id.clone(),
                    became: Became::Output(output.status.clone()),
                    ips: output.ips.clone(),
                    waited: written.and_then(|written| output.at.duration_since(written.at).try_into().ok()),
                });
                self.ledger.output(place, output);
            }
            Event::DeadLetter(place, dead_letter) => {
                self.show(Shown {
                    severity: None,
                    about: self.ledger.find(place).map_or("a message", |written| written.shape).to_owned(),
                    became: Became::DeadLetter(dead_letter.reason.clone()),
                    ips: Vec::new(),
                    waited: None,
                });
                self.ledger.dead_letter(place, dead_letter);
            }
            Event::Stranger(words) => self.ledger.stranger(words),
            Event::End(committed) => return Ok(Some(committed)),
        }
        Ok(None)
    }

    fn show(&mut self, shown: Shown) {
        self.tally.count(&shown.became);
        self.show.record(self.elapsed(), shown, &self.tally);
    }

    fn announce(&mut self, words: &str) {
        words.clone_into(&mut self.act);
        self.show.announce(self.elapsed(), words);
    }

    fn draw(&mut self) -> Result<(), DemoError> {
        if self.ready.is_none() && self.health.ready() {
            self.ready = Some(self.clock.boot());
            self.announce("calm: alerts come slower than the limits allow, and each is asked about at once");
        }
        let (snapshot, windows, counts) = (self.watches.snapshot(), self.sim.windows(), self.sim.counts());
        let nothing = AccountStatus::default();
        self.show.draw(&Picture {
            elapsed: self.elapsed(),
            total: self.total,
            act: &self.act,
            begun: self.ready.is_some(),
            account: snapshot.accounts.first().map_or(&nothing, |(_, account)| account),
            windows: &windows,
            counts: &counts,
            tally: &self.tally,
        })?;
        Ok(())
    }

    fn is_over(&self) -> bool {
        let all_written = self.ready.is_some() && self.next.is_none() && self.under_way == 0;
        all_written && self.ledger.is_complete() && self.freeze.is_none_or(|freeze| freeze.over)
    }

    fn elapsed(&self) -> Duration {
        self.clock.boot().saturating_since(self.began)
    }
}

fn simulated_service(seed: u64, scale: &Scale, plan: Plan, clock: &Clock) -> Sim {
    let mut settings = sim::Settings::new(seed);
    settings.limits = scale.limits.to_vec();
    settings.plan = plan;
    settings.latency = Latency::Uniform { from: Duration::from_millis(20), to: Duration::from_millis(120) };
    Sim::new(settings, clock.clone())
}

/// Sleeps so long, or for ever.
async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
