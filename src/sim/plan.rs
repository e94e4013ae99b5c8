//! What the service answers for which alert: a pure function of the seed and the alert's id.

use std::{
    borrow::Cow,
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::answer::{Answer, Fault, RetryAfter};

/// For every alert id its answers, one for each time it is asked about; the last one repeats.
///
/// ```
/// # use alert_ips::sim::{Answer, Mix, Plan};
/// let plan = Plan::new(7, Mix::REALISTIC).script("da1_1", vec![Answer::NotFound, Answer::Found(vec!["::1".into()])]);
/// assert_eq!(plan.answer("da1_1", 0), Answer::NotFound);
/// assert_eq!(plan.answer("da1_1", 9), plan.last("da1_1"));
/// ```
#[derive(Clone, Debug)]
pub struct Plan {
    seed: u64,
    mix: Mix,
    scripts: HashMap<String, Vec<Answer>>,
}

impl Plan {
    pub fn new(seed: u64, mix: Mix) -> Self {
        Self { seed, mix, scripts: HashMap::new() }
    }

    /// Fixes the answers for one alert.
    ///
    /// # Panics
    /// Where `answers` is empty.
    pub fn script(mut self, id: &str, answers: Vec<Answer>) -> Self {
        assert!(!answers.is_empty(), "a script needs an answer");
        self.scripts.insert(id.to_owned(), answers);
        self
    }

    /// The answer for `id` after it was answered `earlier` times.
    pub fn answer(&self, id: &str, earlier: usize) -> Answer {
        let answers = self.answers(id);
        answers[earlier.min(answers.len() - 1)].clone()
    }

    /// The answer that repeats: what a client that asks often enough ends with.
    pub fn last(&self, id: &str) -> Answer {
        self.answer(id, usize::MAX)
    }

    /// All answers for `id` in their order, never empty.
    pub(super) fn answers(&self, id: &str) -> Cow<'_, [Answer]> {
        match self.scripts.get(id) {
            Some(answers) => Cow::Borrowed(answers),
            None => Cow::Owned(self.drawn(id)),
        }
    }

    fn drawn(&self, id: &str) -> Vec<Answer> {
        let mut hasher = DefaultHasher::new();
        (self.seed, id).hash(&mut hasher);
        let mut rng = SmallRng::seed_from_u64(hasher.finish());
        let found = |rng: &mut SmallRng| Answer::Found(addresses(rng));
        match self.mix.draw(&mut rng) {
            Kind::Found => vec![found(&mut rng)],
            Kind::Empty => vec![Answer::Empty],
            Kind::Unknown => vec![Answer::NotFound],
            Kind::Late => {
                let mut answers = vec![Answer::NotFound; rng.random_range(1..=3)];
                answers.push(found(&mut rng));
                answers
            }
            Kind::Failing => {
                vec![Answer::status(*pick(&mut rng, &[500, 502, 503, 504, 408])), found(&mut rng)]
            }
            Kind::Throttled => {
                let retry_after = pick(&mut rng, &[RetryAfter::Seconds(1), RetryAfter::DateIn(2)]).clone();
                vec![Answer::TooManyRequests { retry_after, window: None }, found(&mut rng)]
            }
            Kind::Broken => {
                let fault = *pick(&mut rng, &[Fault::Reset, Fault::Truncated, Fault::LyingLength]);
                vec![Answer::Broken(fault), found(&mut rng)]
            }
            Kind::Hanging => vec![Answer::Broken(Fault::Hang), found(&mut rng)],
            Kind::Refused => vec![Answer::status(400)],
        }
    }
}

/// One to eight addresses, as messy as the real ones: public, private, link-local, IPv6, repeats, a trailing TAB.
fn addresses(rng: &mut SmallRng) -> Vec<String> {
    let count = if rng.random_ratio(3, 4) { rng.random_range(1..=3) } else { rng.random_range(4..=8) };
    let mut texts: Vec<String> = Vec::with_capacity(count + 1);
    for _ in 0..count {
        let text = match rng.random_range(0..20) {
            0..=11 => Ipv4Addr::new(rng.random_range(11..=99), rng.random(), rng.random(), rng.random()).to_string(),
            12..=15 => Ipv4Addr::new(10, rng.random(), rng.random(), rng.random()).to_string(),
            16 => Ipv4Addr::new(192, 168, rng.random(), rng.random()).to_string(),
            17 => Ipv6Addr::new(0xfe80, 0, 0, 0, rng.random(), rng.random(), rng.random(), rng.random()).to_string(),
            _ => Ipv6Addr::new(0x2a01, rng.random(), 0, 0, 0, 0, rng.random(), rng.random()).to_string(),
        };
        texts.push(if rng.random_ratio(1, 50) { format!("{text}\t") } else { text });
    }
    if rng.random_ratio(1, 20) {
        texts.push(texts[0].clone());
    }
    texts
}

fn pick<'a, T>(rng: &mut SmallRng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}

/// What can be planned for an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Found,
    Empty,
    Unknown,
    Late,
    Failing,
    Throttled,
    Broken,
    Hanging,
    Refused,
}

/// How often each kind of answer is planned, by weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Addresses at once.
    pub found: u32,
    /// Known, without addresses.
    pub empty: u32,
    /// 404, whenever asked.
    pub unknown: u32,
    /// 404 one to three times, then found.
    pub late: u32,
    /// A 5xx or 408 once, then found.
    pub failing: u32,
    /// A 429 once with a `Retry-After` of a second or two, then found.
    pub throttled: u32,
    /// A broken connection or body once, then found.
    pub broken: u32,
    /// No answer once, then found.
    pub hanging: u32,
    /// 400, whenever asked.
    pub refused: u32,
}

impl Mix {
    pub const NOTHING: Self =
        Self { found: 0, empty: 0, unknown: 0, late: 0, failing: 0, throttled: 0, broken: 0, hanging: 0, refused: 0 };
    /// Every alert has addresses: for measuring, and for tests that are about something else.
    pub const ALL_FOUND: Self = Self { found: 1, ..Self::NOTHING };
    /// A good day.
    pub const REALISTIC: Self = Self { found: 860, empty: 90, unknown: 10, late: 30, failing: 10, ..Self::NOTHING };
    /// A bad day: everything that can go wrong does, often.
    pub const STORMY: Self = Self {
        found: 500,
        empty: 80,
        unknown: 40,
        late: 80,
        failing: 120,
        throttled: 20,
        broken: 120,
        hanging: 20,
        refused: 20,
    };

    fn weights(&self) -> [(&'static str, Kind, u32); 9] {
        [
            ("found", Kind::Found, self.found),
            ("empty", Kind::Empty, self.empty),
            ("unknown", Kind::Unknown, self.unknown),
            ("late", Kind::Late, self.late),
            ("failing", Kind::Failing, self.failing),
            ("throttled", Kind::Throttled, self.throttled),
            ("broken", Kind::Broken, self.broken),
            ("hanging", Kind::Hanging, self.hanging),
            ("refused", Kind::Refused, self.refused),
        ]
    }

    fn draw(&self, rng: &mut SmallRng) -> Kind {
        let weights = self.weights();
        let sum: u64 = weights.iter().map(|&(_, _, weight)| u64::from(weight)).sum();
        let mut at = if sum == 0 { 0 } else { rng.random_range(0..sum) };
        for (_, kind, weight) in weights {
            match at.checked_sub(u64::from(weight)) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        Kind::Found
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used: Vec<_> = self.weights().iter().filter(|w| w.2 > 0).map(|w| format!("{}={}", w.0, w.2)).collect();
        f.write_str(&used.join(","))
    }
}

/// The text is no mix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a mix is \"all-found\", \"realistic\", \"stormy\" or weights such as \"found=80,empty=15,late=5\"; the kinds are \
     found, empty, unknown, late, failing, throttled, broken, hanging and refused"
)]
pub struct InvalidMix;

impl FromStr for Mix {
    type Err = InvalidMix;

    fn from_str(text: &str) -> Result<Self, InvalidMix> {
        match text {
            "all-found" => return Ok(Self::ALL_FOUND),
            "realistic" => return Ok(Self::REALISTIC),
            "stormy" => return Ok(Self::STORMY),
            _ => {}
        }
        let mut mix = Self::NOTHING;
        for part in text.split(',') {
            let (name, weight) = part.split_once('=').ok_or(InvalidMix)?;
            let slot = match name.trim() {
                "found" => &mut mix.found,
                "empty" => &mut mix.empty,
                "unknown" => &mut mix.unknown,
                "late" => &mut mix.late,
                "failing" => &mut mix.failing,
                "throttled" => &mut mix.throttled,
                "broken" => &mut mix.broken,
                "hanging" => &mut mix.hanging,
                "refused" => &mut mix.refused,
                _ => return Err(InvalidMix),
            };
            *slot = weight.trim().parse().map_err(|_| InvalidMix)?;
        }
        if mix == Self::NOTHING { Err(InvalidMix) } else { Ok(mix) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::related_ips::RelatedIps;

    #[test]
    fn one_seed_gives_one_plan() {
        let ids: Vec<_> = (0..500).map(|n| format!("da{n}_1")).collect();
        let plan = |seed| {
            let plan = Plan::new(seed, Mix::STORMY);
            ids.iter().map(|id| plan.answers(id).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(plan(3), plan(3));
        assert_ne!(plan(3), plan(4));
    }

    #[test]
    fn kinds_come_as_often_as_their_weight() {
        let plan = Plan::new(1, Mix { found: 3, empty: 1, ..Mix::NOTHING });
        let empty = (0..4_000).filter(|n| plan.last(&n.to_string()) == Answer::Empty).count();
        assert!((900..1_100).contains(&empty), "{empty} of 4000 are empty");
    }

    #[test]
    fn planned_addresses_are_valid() {
        let plan = Plan::new(5, Mix::ALL_FOUND);
        for n in 0..1_000 {
            let answer = plan.last(&n.to_string());
            let ips = RelatedIps::from_texts(answer.addresses().unwrap());
            assert!(!ips.is_empty() && ips.invalid_count() == 0, "{answer:?}");
        }
    }

    #[test]
    fn scripts_win_and_their_last_answer_repeats() {
        let plan = Plan::new(1, Mix::ALL_FOUND).script("a", vec![Answer::status(500), Answer::Empty]);
        let answers: Vec<_> = (0..4).map(|earlier| plan.answer("a", earlier)).collect();
        assert_eq!(answers, [Answer::status(500), Answer::Empty, Answer::Empty, Answer::Empty]);
    }

    #[rstest]
    #[case::named("realistic", Mix::REALISTIC)]
    #[case::weights("found=80,late=5", Mix { found: 80, late: 5, ..Mix::NOTHING })]
    fn mixes_are_read(#[case] text: &str, #[case] mix: Mix) {
        assert_eq!(text.parse(), Ok(mix));
        assert_eq!(mix.to_string().parse(), Ok(mix));
    }

    #[rstest]
    #[case::unknown_kind("lost=1")]
    #[case::no_weight("found")]
    #[case::nothing("found=0")]
    fn other_texts_are_no_mix(#[case] text: &str) {
        assert_eq!(text.parse::<Mix>(), Err(InvalidMix));
    }
}
