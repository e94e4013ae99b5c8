//! The instances, the brokers and the ways between them, and what is done to them.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    cluster::{self, Broker},
    harness::{Config, Daemon, Fate, Kind, Proxy, Rule, Traffic, WallClock},
    history::{At, Fact, FaultKind, Recorder, now},
    schedule::Planned,
    witness::Processes,
};

/// Between two faults of brokers, so that the replicas are in step again and two are never away at once.
const BROKER_REST: Duration = Duration::from_secs(20);

/// An instance that ended by itself is started again after this, as a service manager does.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long a broker may take to stop cleanly.
const BROKER_STOP: Duration = Duration::from_secs(20);

/// By how many seconds the wall clock of an instance is ahead, one setting after the other: first it jumps back, then forward.
/// Less than an hour, which is all that brokers let a record be of the future.
const CLOCK_AHEAD: [i64; 5] = [-1_800, 1_800, -600, 60, 0];

/// What a process says once it takes signals; before, any ends it.
const TAKES_SIGNALS: &str = "alert-ips starts";

/// What it says of a producer that is of no more use.
const GIVEN_UP: &str = "can't go on: ";

pub(crate) struct Fleet {
    members: Vec<Member>,
    brokers: Vec<Broker>,
    broker_fault: BrokerFault,
    recorder: Recorder,
    processes: Processes,
    /// Where the logs of all lives are kept.
    folder: PathBuf,
    faults: u32,
}

/// One instance, whatever happens to it.
struct Member {
    name: String,
    config: Config,
    life: Life,
    proxy: Proxy,
    /// When its connections are open again, and of which fault that is the end.
    closed: Option<(Instant, u32)>,
    /// What happens to its transactions, until when, and of which fault that is the end.
    disturbed: Option<(Rule, Instant, u32)>,
    reloads: usize,
    wall_clock: WallClock,
    /// How often that was set.
    clock_sets: usize,
}

enum Life {
    Running(Daemon),
    Stopped {
        daemon: Daemon,
        until: Instant,
        fault: u32,
    },
    Ending {
        daemon: Daemon,
        asked: At,
        lasts: Duration,
        fault: Option<u32>,
    },
    Down {
        until: Instant,
        fault: Option<u32>,
    },
    /// At the end of the run.
    Gone,
}

/// At most one broker is away.
enum BrokerFault {
    None { since: Instant },
    Ending { index: usize, since: Instant, lasts: Duration, fault: u32 },
    Down { index: usize, until: Instant, fault: u32 },
    Starting { index: usize, fault: u32 },
}

impl Fleet {
    pub(crate) fn start(
        configs: Vec<(String, Config, Proxy)>,
        brokers: Vec<Broker>,
        recorder: Recorder,
        processes: Processes,
        folder: PathBuf,
    ) -> Self {
        let member = |(name, config, proxy): (String, Config, Proxy)| {
            let wall_clock = WallClock::at(folder.join(format!("{name}.clock")));
            Member {
                name,
                config: config.wall_clock(&wall_clock),
                life: Life::Down { until: Instant::now(), fault: None },
                proxy,
                closed: None,
                disturbed: None,
                reloads: 0,
                wall_clock,
                clock_sets: 0,
            }
        };
        let members = configs.into_iter().map(member).collect();
        let broker_fault = BrokerFault::None { since: Instant::now() };
        let mut fleet = Self { members, brokers, broker_fault, recorder, processes, folder, faults: 0 };
        fleet.tick();
        fleet
    }

    /// Ends what has lasted long enough, and notes what ended by itself.
    pub(crate) fn tick(&mut self) {
        for index in 0..self.members.len() {
            self.tick_member(index);
        }
        self.tick_brokers();
    }

    fn tick_member(&mut self, index: usize) {
        let now = Instant::now();
        let member = &mut self.members[index];
        if let Some((until, fault)) = member.closed
            && now >= until
        {
            member.proxy.set(Traffic::Open);
            member.closed = None;
            self.recorder.add(Fact::End { fault });
        }
        let member = &mut self.members[index];
        if let Some((_, _, fault)) = member.disturbed.take_if(|(_, until, _)| now >= *until) {
            self.recorder.add(Fact::End { fault });
        }
        match std::mem::replace(&mut member.life, Life::Gone) {
            Life::Running(mut daemon) => match daemon.ended() {
                None => member.life = Life::Running(daemon),
                Some(status) => {
                    member.life = Life::Down { until: now + AGAIN_AFTER, fault: None };
                    self.ended(index, daemon, None, status.code());
                }
            },
            Life::Stopped { daemon, until, fault } if now >= until => {
                daemon.resume();
                member.life = Life::Running(daemon);
                self.recorder.add(Fact::End { fault });
            }
            Life::Ending { mut daemon, asked, lasts, fault } => match daemon.ended() {
                None => member.life = Life::Ending { daemon, asked, lasts, fault },
                Some(status) => {
                    member.life = Life::Down { until: now + lasts, fault };
                    self.ended(index, daemon, Some(asked), status.code());
                }
            },
            Life::Down { until, fault } if now >= until => {
                let daemon = Daemon::start(&member.config);
                self.processes.lock().unwrap().insert(member.name.clone(), daemon.process());
                member.life = Life::Running(daemon);
                if let Some(fault) = fault {
                    self.recorder.add(Fact::End { fault });
                }
            }
            life => member.life = life,
        }
    }

    fn tick_brokers(&mut self) {
        let now = Instant::now();
        match self.broker_fault {
            BrokerFault::Ending { index, since, lasts, fault } => {
                let broker = &mut self.brokers[index];
                if broker.has_ended() || now >= since + BROKER_STOP {
                    broker.kill();
                    self.broker_fault = BrokerFault::Down { index, until: now + lasts, fault };
                }
            }
            BrokerFault::Down { index, until, fault } if now >= until => {
                self.brokers[index].start();
                self.broker_fault = BrokerFault::Starting { index, fault };
            }
            BrokerFault::Starting { index, fault } if self.brokers[index].listens() => {
                self.recorder.add(Fact::End { fault });
                self.broker_fault = BrokerFault::None { since: now };
            }
            BrokerFault::Starting { index, .. } => {
                assert!(!self.brokers[index].has_ended(), "broker {} does not start", index + 1);
            }
            BrokerFault::None { .. } | BrokerFault::Down { .. } => {}
        }
    }

    /// Does what is planned; false where that is not possible now.
    pub(crate) fn disturb(&mut self, planned: &Planned) -> bool {
        match planned.kind {
            FaultKind::BrokerKill | FaultKind::BrokerTerm => self.disturb_broker(planned),
            FaultKind::Cut | FaultKind::Hold => self.close(planned),
            FaultKind::EndHeld | FaultKind::EndLost | FaultKind::OffsetsCopied => self.disturb_transactions(planned),
            FaultKind::Kill | FaultKind::Term | FaultKind::Stop | FaultKind::Reload => self.disturb_member(planned),
            FaultKind::ClockSet => self.set_clock(planned),
        }
    }

    /// Also of an instance that is away: it begins its next life with that.
    fn set_clock(&mut self, planned: &Planned) -> bool {
        let index = planned.target % self.members.len();
        let fault = self.begin(planned.kind, &self.members[index].name.clone());
        let member = &mut self.members[index];
        member.wall_clock.set_ahead(CLOCK_AHEAD[member.clock_sets % CLOCK_AHEAD.len()]);
        member.clock_sets += 1;
        self.recorder.add(Fact::End { fault });
        true
    }

    fn disturb_broker(&mut self, planned: &Planned) -> bool {
        let BrokerFault::None { since } = self.broker_fault else { return false };
        if since.elapsed() < BROKER_REST {
            return false;
        }
        let (index, lasts) = (planned.target % cluster::BROKERS, planned.lasts);
        let fault = self.begin(planned.kind, &format!("broker {}", index + 1));
        let now = Instant::now();
        self.broker_fault = if planned.kind == FaultKind::BrokerKill {
            self.brokers[index].kill();
            BrokerFault::Down { index, until: now + lasts, fault }
        } else {
            self.brokers[index].terminate();
            BrokerFault::Ending { index, since: now, lasts, fault }
        };
        true
    }

    fn close(&mut self, planned: &Planned) -> bool {
        let index = planned.target % self.members.len();
        if self.members[index].closed.is_some() {
            return false;
        }
        let fault = self.begin(planned.kind, &self.members[index].name.clone());
        let member = &mut self.members[index];
        member.proxy.set(if planned.kind == FaultKind::Cut { Traffic::Cut } else { Traffic::Held });
        member.closed = Some((Instant::now() + planned.lasts, fault));
        true
    }

    fn disturb_transactions(&mut self, planned: &Planned) -> bool {
        let (kind, fate, times) = match planned.kind {
            FaultKind::EndHeld => (Kind::EndTxn, Fate::Held, 1),
            FaultKind::EndLost => (Kind::EndTxn, Fate::AnswerLost, usize::MAX),
            _ => (Kind::TxnOffsetCommit, Fate::Orphaned, 1),
        };
        let index = planned.target % self.members.len();
        if self.members[index].disturbed.is_some() {
            return false;
        }
        let fault = self.begin(planned.kind, &self.members[index].name.clone());
        let member = &mut self.members[index];
        let rule = member.proxy.meet(kind, fate, times);
        member.disturbed = Some((rule, Instant::now() + planned.lasts, fault));
        true
    }

    fn disturb_member(&mut self, planned: &Planned) -> bool {
        let index = planned.target % self.members.len();
        let name = self.members[index].name.clone();
        let Life::Running(daemon) = &self.members[index].life else { return false };
        let is_for_it_to_take = matches!(planned.kind, FaultKind::Term | FaultKind::Reload);
        if is_for_it_to_take && !daemon.log().contains(TAKES_SIGNALS) {
            return false;
        }
        let fault = self.begin(planned.kind, &name);
        let Life::Running(daemon) = std::mem::replace(&mut self.members[index].life, Life::Gone) else { return false };
        let until = Instant::now() + planned.lasts;
        self.members[index].life = match planned.kind {
            FaultKind::Kill => {
                self.keep_log(index, &daemon);
                daemon.kill();
                Life::Down { until, fault: Some(fault) }
            }
            FaultKind::Stop => {
                daemon.pause();
                Life::Stopped { daemon, until, fault }
            }
            FaultKind::Reload => {
                self.members[index].reloads += 1;
                let (from, to) = if self.members[index].reloads % 2 == 1 { (8, 7) } else { (7, 8) };
                let line = |calls: usize| format!("max_in_flight = {calls}");
                daemon.reload(|text| text.replace(&line(from), &line(to)));
                self.recorder.add(Fact::End { fault });
                Life::Running(daemon)
            }
            _ => {
                daemon.terminate();
                Life::Ending { daemon, asked: now(), lasts: planned.lasts, fault: Some(fault) }
            }
        };
        true
    }

    fn begin(&mut self, kind: FaultKind, target: &str) -> u32 {
        self.faults += 1;
        self.recorder.add(Fact::Begin { fault: self.faults, kind, target: target.to_owned() });
        self.faults
    }

    fn ended(&self, index: usize, daemon: Daemon, asked: Option<At>, code: Option<i32>) {
        let panicked = self.keep_log(index, &daemon);
        drop(daemon);
        let instance = self.members[index].name.clone();
        self.recorder.add(Fact::Ended { instance, asked, code, panicked });
    }

    /// Keeps a life's log; true where it tells of a panic.
    fn keep_log(&self, index: usize, daemon: &Daemon) -> bool {
        let log = daemon.log();
        let path = self.folder.join(format!("{}.log", self.members[index].name));
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        file.write_all(log.as_bytes()).unwrap();
        let (instance, producers) = (self.members[index].name.clone(), log.matches(GIVEN_UP).count());
        if producers > 0 {
            self.recorder.add(Fact::GivenUp { instance, producers });
        }
        log.contains("panicked at")
    }

    /// Everything that was done ends now.
    pub(crate) fn heal(&mut self) {
        let now = Instant::now();
        for member in &mut self.members {
            if let Some((until, _)) = &mut member.closed {
                *until = now;
            }
            if let Some((_, until, _)) = &mut member.disturbed {
                *until = now;
            }
            match &mut member.life {
                Life::Stopped { until, .. } | Life::Down { until, .. } => *until = now,
                Life::Ending { lasts, .. } => *lasts = Duration::ZERO,
                Life::Running(_) | Life::Gone => {}
            }
        }
        match &mut self.broker_fault {
            BrokerFault::Down { until, .. } => *until = now,
            BrokerFault::Ending { lasts, .. } => *lasts = Duration::ZERO,
            BrokerFault::None { .. } | BrokerFault::Starting { .. } => {}
        }
    }

    /// Whether each instance reads partitions, so that none move before something is done to them.
    pub(crate) fn shares_the_input(&self) -> bool {
        let reads = |log: &str| log.lines().any(|line| line.contains("partitions assigned") && !line.contains("\"\""));
        self.members.iter().all(|member| matches!(&member.life, Life::Running(daemon) if reads(&daemon.log())))
    }

    pub(crate) fn is_whole(&self) -> bool {
        let is_free = |member: &Member| member.closed.is_none() && member.disturbed.is_none();
        let runs = |member: &Member| matches!(member.life, Life::Running(_)) && is_free(member);
        self.members.iter().all(runs) && matches!(self.broker_fault, BrokerFault::None { .. })
    }

    /// Asks all instances to stop, as an operator does.
    pub(crate) fn terminate(&mut self) {
        for member in &mut self.members {
            if let Life::Running(daemon) = std::mem::replace(&mut member.life, Life::Gone) {
                daemon.terminate();
                let lasts = Duration::from_hours(1);
                member.life = Life::Ending { daemon, asked: now(), lasts, fault: None };
            }
        }
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.members.iter().all(|member| matches!(member.life, Life::Down { .. } | Life::Gone))
    }

    /// The logs of those that still run, where they are to be looked at.
    pub(crate) fn keep_logs(&self) {
        for (index, member) in self.members.iter().enumerate() {
            if let Life::Running(daemon) | Life::Stopped { daemon, .. } | Life::Ending { daemon, .. } = &member.life {
                self.keep_log(index, daemon);
            }
        }
        let copied = |broker: usize| {
            let log = self.folder.join(format!("broker-{broker}/log"));
            fs::metadata(log).map_or(0, |file| file.len())
        };
        eprintln!("logs of the brokers: {} bytes", (1..=cluster::BROKERS).map(copied).sum::<u64>());
    }
}
