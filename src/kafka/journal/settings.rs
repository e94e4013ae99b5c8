//! Whether the journal's topic is one that the budget can rest on, judged by what the broker tells of it.

use std::time::Duration;

use crate::kafka::topics::TopicFacts;

/// What the journal's topic must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Demands {
    /// The least time entries must be kept: the longest window with its margin, and at least as long as answers are reused.
    pub retention: Duration,
    /// Go on where the broker does not tell the topic's settings, as Azure Event Hubs doesn't.
    pub assume_settings: bool,
}

/// What is to be said of the topic's settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Why no call may be made, each with what to do. Empty: the journal is usable.
    pub refusals: Vec<String>,
    /// What weakens a promise, each with what to do.
    pub warnings: Vec<String>,
    /// Whether entries may be stamped by the clocks of those who write them: windows must then be widened by a skew margin.
    pub skewed_clocks: bool,
}

impl Judgement {
    pub fn usable(&self) -> bool {
        self.refusals.is_empty()
    }

    pub(super) fn refused(words: String) -> Self {
        Self { refusals: vec![words], ..Self::default() }
    }
}

/// Judges a topic. A setting that the broker does not tell beside others is one that it doesn't have.
pub fn judge(facts: &TopicFacts, demands: Demands) -> Judgement {
    let mut judgement = Judgement::default();
    if facts.settings.is_empty() {
        untold(demands, &mut judgement);
    } else {
        keeping(facts, demands.retention, &mut judgement);
        stamping(facts, &mut judgement);
    }
    surviving(facts, &mut judgement);
    judgement
}

fn untold(demands: Demands, judgement: &mut Judgement) {
    let needed = format!(
        "cleanup.policy delete, retention of at least {}, and message.timestamp.type LogAppendTime",
        humantime::format_duration(demands.retention)
    );
    if demands.assume_settings {
        judgement.warnings.push(format!(
            "the broker does not tell the settings of the journal; it is taken to have {needed}, because \
             journal.assume_settings is true"
        ));
    } else {
        judgement.refusals.push(format!(
            "the broker does not tell the settings of the journal, so no call is made; grant describe_configs on its topic, \
             or, if you know that it has {needed}, set journal.assume_settings = true"
        ));
    }
}

/// Entries must be there for as long as a window looks back.
fn keeping(facts: &TopicFacts, needed: Duration, judgement: &mut Judgement) {
    let policy = facts.setting("cleanup.policy").unwrap_or("delete");
    if policy != "delete" {
        judgement.refusals.push(format!(
            "cleanup.policy of the journal is {}: kafka may remove entries that still count, so no call is made; set it to \
             delete",
            policy.escape_default()
        ));
    }
    let told = facts.setting("retention.ms").and_then(|millis| millis.parse::<i64>().ok());
    // -1 is for ever.
    let kept = told.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
    if let Some(kept) = kept.filter(|kept| *kept < needed) {
        judgement.refusals.push(format!(
            "retention.ms of the journal keeps entries for {}, but they count for {}, so no call is made; set it to at \
             least {}",
            humantime::format_duration(kept),
            humantime::format_duration(needed),
            needed.as_millis()
        ));
    }
    let most = facts.setting("retention.bytes").and_then(|bytes| bytes.parse::<u64>().ok());
    if let Some(most) = most {
        judgement.warnings.push(format!(
            "retention.bytes of the journal is {most}: kafka may remove entries that still count; set it to -1"
        ));
    }
}

fn stamping(facts: &TopicFacts, judgement: &mut Judgement) {
    let stamp = facts.setting("message.timestamp.type").unwrap_or("CreateTime");
    if stamp != "LogAppendTime" {
        judgement.skewed_clocks = true;
        judgement.warnings.push(format!(
            "message.timestamp.type of the journal is {}: the instances' own clocks count, so every window is widened by a \
             margin and fewer calls are made; set it to LogAppendTime",
            stamp.escape_default()
        ));
    }
}

/// What was acknowledged must outlive a broker, else calls are forgotten.
fn surviving(facts: &TopicFacts, judgement: &mut Judgement) {
    if facts.setting("unclean.leader.election.enable") == Some("true") {
        judgement.warnings.push(
            "unclean.leader.election.enable of the journal is true: entries may be lost with a broker, and calls then \
             exceed the limits; set it to false"
                .to_owned(),
        );
    }
    if facts.brokers < 3 {
        return;
    }
    if facts.replicas < 3 {
        judgement.warnings.push(format!(
            "the journal has {} of 3 replicas: entries may be lost with a broker, and calls then exceed the limits; \
             reassign its partitions to 3 brokers",
            facts.replicas
        ));
    }
    let in_sync = facts.setting("min.insync.replicas").and_then(|least| least.parse::<u64>().ok());
    if let Some(in_sync) = in_sync.filter(|least| *least < 2) {
        judgement.warnings.push(format!(
            "min.insync.replicas of the journal is {in_sync}: entries may be lost with a broker, and calls then exceed the \
             limits; set it to 2"
        ));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const HOUR_AND_MARGIN: Demands = Demands { retention: Duration::from_mins(65), assume_settings: false };

    fn facts(changed: &[(&str, &str)]) -> TopicFacts {
        let good = [
            ("cleanup.policy", "delete"),
            ("retention.ms", "86400000"),
            ("retention.bytes", "-1"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.insync.replicas", "2"),
            ("unclean.leader.election.enable", "false"),
        ];
        let value = |name| changed.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let settings =
            good.iter().map(|(name, good)| ((*name).to_owned(), value(*name).unwrap_or(good).to_owned())).collect();
        TopicFacts { partitions: 1, replicas: 3, brokers: 3, settings, ..TopicFacts::default() }
    }

    #[rstest]
    #[case::as_created(&[])]
    #[case::for_ever(&[("retention.ms", "-1")])]
    #[case::just_long_enough(&[("retention.ms", "3900000")])]
    fn fitting_settings_are_accepted_without_a_word(#[case] changed: &[(&str, &str)]) {
        assert_eq!(judge(&facts(changed), HOUR_AND_MARGIN), Judgement::default());
    }

    #[rstest]
    #[case::compacted(&[("cleanup.policy", "compact")], "set it to delete")]
    #[case::compacted_too(&[("cleanup.policy", "compact,delete")], "set it to delete")]
    #[case::too_short(&[("retention.ms", "3899999")], "set it to at least 3900000")]
    fn settings_that_forget_calls_are_refused(#[case] changed: &[(&str, &str)], #[case] remedy: &str) {
        let judgement = judge(&facts(changed), HOUR_AND_MARGIN);
        assert!(!judgement.usable() && judgement.warnings.is_empty(), "{judgement:?}");
        assert!(judgement.refusals[0].contains(remedy), "{judgement:?}");
    }

    #[rstest]
    #[case::unclean(&[("unclean.leader.election.enable", "true")], "set it to false", false)]
    #[case::one_in_sync(&[("min.insync.replicas", "1")], "set it to 2", false)]
    #[case::bounded_by_size(&[("retention.bytes", "1048576")], "set it to -1", false)]
    #[case::own_clocks(&[("message.timestamp.type", "CreateTime")], "set it to LogAppendTime", true)]
    fn settings_that_weaken_a_promise_are_warned_of(
        #[case] changed: &[(&str, &str)],
        #[case] remedy: &str,
        #[case] skewed_clocks: bool,
    ) {
        let judgement = judge(&facts(changed), HOUR_AND_MARGIN);
        assert!(judgement.usable() && judgement.warnings.len() == 1, "{judgement:?}");
        assert!(judgement.warnings[0].contains(remedy), "{judgement:?}");
        assert_eq!(judgement.skewed_clocks, skewed_clocks);
    }

    #[rstest]
    #[case::cluster(3, 1)]
    #[case::two_brokers(2, 0)]
    #[case::single_broker(1, 0)]
    fn as_many_replicas_are_wanted_as_the_cluster_can_hold(#[case] brokers: usize, #[case] warnings: usize) {
        let facts = TopicFacts { replicas: 1, brokers, ..facts(&[]) };
        assert_eq!(judge(&facts, HOUR_AND_MARGIN).warnings.len(), warnings);
    }

    #[test]
    fn untold_settings_are_refused_unless_the_operator_vouches_for_them() {
        let untold = TopicFacts { settings: Vec::new(), ..facts(&[]) };
        let refused = judge(&untold, HOUR_AND_MARGIN);
        assert!(refused.refusals[0].contains("set journal.assume_settings = true"), "{refused:?}");
        let assumed = judge(&untold, Demands { assume_settings: true, ..HOUR_AND_MARGIN });
        assert!(assumed.usable() && assumed.warnings[0].contains("retention of at least 1h 5m"), "{assumed:?}");
        // Event Hubs stamps entries itself.
        assert!(!assumed.skewed_clocks);
    }
}
