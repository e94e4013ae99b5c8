//! What happens when: a calm begin, a storm of minor alerts, a 429 freeze in the midst of it, and the end.
//!
//! Everything is scaled to the seconds given, so that a minute shows what takes hours at the real limits.

use std::{num::NonZeroU32, time::Duration};

use jiff::Timestamp;

use crate::{
    domain::{alert::Severity, limit::Limit},
    sim::{
        Mix,
        world::{Message, Shares, World},
    },
};

/// Calls a second that the longer limit sustains, and the short bursts that the shorter one allows.
const CALLS_PER_SECOND: u32 = 8;
const SHORT: Limit = Limit { calls: NonZeroU32::new(24).unwrap(), per: Duration::from_secs(2) };

/// Calls a second that are left of it, after what is kept free for late calls, for the clocks and for High alerts.
const USABLE_PER_SECOND: f64 = 7.4;

/// Calls an alert costs on average, re-asks and failures included, answers used again left out.
const CALLS_PER_ALERT: f64 = 1.15;

/// How long the embedded broker lets a consumer group wait for its members, with a bit for the start.
const JOIN: f64 = 3.5;

/// What is answered: a good day with more than its share of what is worth seeing.
pub(super) const MIX: Mix =
    Mix { found: 815, empty: 90, unknown: 15, late: 50, failing: 10, broken: 5, refused: 15, throttled: 0, hanging: 0 };

/// What is written outside the storm: some of it odd, so that there are dead letters.
const SHARES: Shares = Shares { odd: 80, repeat: 100, storm: 0 };

/// The demo's limits and times. Points in time count from when the daemon is ready.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) limits: [Limit; 2],
    pub(super) max_in_flight: u32,
    pub(super) reask_after: [Duration; 3],
    /// Alerts to write.
    pub(super) alerts: u32,
    /// When all calls meet a 429, and for how long; a run too short for it has none.
    pub(super) freeze: Option<(Duration, Duration)>,
    pub(super) storm_at: Duration,
    /// When the last alert is written.
    pub(super) written_by: Duration,
}

impl Scale {
    /// For a run of so many `seconds`; `alerts`: how many there should be instead of as many as fit.
    pub(super) fn new(seconds: u32, alerts: Option<u32>) -> Self {
        let whole = f64::from(seconds);
        let working = (whole - JOIN).max(1.0);
        // Retry-After has whole seconds.
        let pause = (whole / 12.0).round().clamp(2.0, 5.0);
        let freeze = (working >= 10.0).then(|| (seconds_f(working * 0.4), seconds_f(pause)));
        let answering = working - freeze.map_or(0.0, |_| pause) - (3.0 + 0.05 * working).min(working * 0.4);
        let fitting = answering * USABLE_PER_SECOND * 0.8 / CALLS_PER_ALERT;
        let long = (seconds / 3).clamp(5, 20);
        let reask = Duration::from_secs(u64::from(seconds / 30).max(1));
        let calls = NonZeroU32::new(CALLS_PER_SECOND * long).unwrap_or(NonZeroU32::MIN);
        Self {
            limits: [SHORT, Limit { calls, per: Duration::from_secs(long.into()) }],
            max_in_flight: 4,
            reask_after: [reask, reask, 2 * reask],
            alerts: alerts.unwrap_or_else(|| whole_part(fitting).max(4)),
            freeze,
            storm_at: seconds_f(working * 0.15),
            written_by: seconds_f(working * 0.55),
        }
    }

    /// Alerts of the storm: they are there all at once.
    pub(super) fn storm_alerts(&self) -> u32 {
        self.alerts * 45 / 100
    }

    fn calm_alerts(&self) -> u32 {
        self.alerts * 15 / 100
    }

    /// How long all alerts take at these limits.
    pub(super) fn needs(&self) -> Duration {
        let answering = f64::from(self.alerts) * CALLS_PER_ALERT / USABLE_PER_SECOND;
        seconds_f(JOIN + answering) + self.freeze.map_or(Duration::ZERO, |(_, lasts)| lasts)
    }
}

fn seconds_f(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to what u32 holds")]
fn whole_part(number: f64) -> u32 {
    number.clamp(0.0, f64::from(u32::MAX)) as u32
}

/// One message to write.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) message: Message,
    /// Whether the storm has begun.
    pub(super) in_storm: bool,
}

/// The messages in their order. One seed, one script.
pub(super) struct Script {
    world: World,
    scale: Scale,
    alerts: u32,
    messages: u32,
}

impl Script {
    pub(super) fn new(seed: u64, now: Timestamp, scale: Scale) -> Self {
        Self { world: World::new(seed, now).shares(SHARES), scale, alerts: 0, messages: 0 }
    }

    pub(super) fn next_step(&mut self) -> Option<Step> {
        if self.alerts >= self.scale.alerts {
            return None;
        }
        let (calm, storm) = (self.scale.calm_alerts(), self.scale.storm_alerts());
        let (storm_at, written_by) = (self.scale.storm_at, self.scale.written_by);
        let in_storm = self.alerts >= calm;
        let (at, message) = if !in_storm {
            (storm_at.mul_f64(part(self.alerts, calm)), self.world.next_message())
        } else if self.alerts - calm < storm {
            self.world.start_storm(1);
            (storm_at, self.world.next_message())
        } else {
            let (done, all) = (self.alerts - calm - storm, self.scale.alerts - calm - storm);
            let at = storm_at + written_by.saturating_sub(storm_at).mul_f64(part(done, all));
            // Enough high ones to see that they go first.
            let high = self.messages.is_multiple_of(6);
            (at, if high { self.world.alert(Severity::High) } else { self.world.next_message() })
        };
        self.messages += 1;
        self.alerts += u32::try_from(message.expected.alerts.len()).unwrap_or(u32::MAX);
        Some(Step { at, message, in_storm })
    }
}

fn part(done: u32, all: u32) -> f64 {
    f64::from(done) / f64::from(all.max(1))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn steps(seconds: u32, alerts: Option<u32>) -> (Scale, Vec<Step>) {
        let scale = Scale::new(seconds, alerts);
        let mut script = Script::new(7, Timestamp::constant(1_795_000_000, 0), scale.clone());
        (scale, std::iter::from_fn(move || script.next_step()).collect())
    }

    #[rstest]
    #[case::shortest(5, None)]
    #[case::short(20, None)]
    #[case::usual(60, None)]
    #[case::long(600, None)]
    #[case::one_alert(60, Some(1))]
    #[case::too_many(20, Some(1000))]
    fn a_script_is_in_order_and_holds_the_alerts_asked_for(#[case] seconds: u32, #[case] alerts: Option<u32>) {
        let (scale, steps) = steps(seconds, alerts);
        assert!(steps.is_sorted_by_key(|step| step.at));
        assert!(steps.last().unwrap().at <= scale.written_by);
        let written: usize = steps.iter().map(|step| step.message.expected.alerts.len()).sum();
        // The last message may hold several.
        let wanted = scale.alerts as usize;
        assert!((wanted..wanted + 6).contains(&written), "{written} of {wanted}");
    }

    #[test]
    fn what_fits_is_over_before_the_time_is() {
        for seconds in 10..=600 {
            let needs = Scale::new(seconds, None).needs();
            assert!(needs < Duration::from_secs(seconds.into()), "{seconds} s: {needs:?}");
        }
    }

    #[test]
    fn the_storm_is_minor_and_high_alerts_come_through_it() {
        let (scale, steps) = steps(60, None);
        let storm = steps.iter().filter(|step| step.at == scale.storm_at);
        assert!(storm.filter(|step| step.in_storm).count() >= scale.storm_alerts() as usize);
        let high = steps.iter().filter(|step| {
            step.in_storm && step.message.expected.alerts.iter().any(|alert| alert.severity == Severity::High)
        });
        assert!(high.count() >= 10);
    }

    #[test]
    fn a_run_too_short_for_a_freeze_has_none() {
        assert!(Scale::new(5, None).freeze.is_none());
        let (at, lasts) = Scale::new(20, None).freeze.unwrap();
        assert!(at + lasts < Scale::new(20, None).written_by + Duration::from_secs(2));
    }
}
