//! Which alerts are not asked about because the operator does not want to.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    alert::{Alert, Severity},
    outcome::Skip,
};

/// What an alert must be like to get a call and an output. Of each condition, empty means any.
///
/// What an alert does not tell can't be held against it: one without a tenant passes every condition on tenants. A
/// severity that is not told is `unspecified`, which has to be named where severities are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub severities: Vec<Severity>,
    /// In any case, as the alert's shape writes them (`WindowsDefenderAtp`, `EDR`, `customTi`).
    pub detection_sources: Vec<String>,
    /// Of the alert's latest known time.
    pub max_age: Option<Duration>,
    /// Lower-cased.
    pub tenants: Vec<String>,
}

impl Filter {
    /// Why `alert`, found by `detection_source` where its shape tells that, gets neither a call nor an output; `None`: it
    /// does. With several reasons the first in the order of the fields.
    pub fn refuses(&self, alert: &Alert, detection_source: Option<&str>, now: Timestamp) -> Option<Skip> {
        let unwanted = |wanted: &[String], told: Option<&str>| {
            told.is_some_and(|told| !wanted.is_empty() && !wanted.iter().any(|one| one.eq_ignore_ascii_case(told)))
        };
        if !self.severities.is_empty() && !self.severities.contains(&alert.severity) {
            return Some(Skip::UnwantedSeverity);
        }
        if unwanted(&self.detection_sources, detection_source) {
            return Some(Skip::UnwantedDetectionSource);
        }
        if self.max_age.is_some_and(|max_age| alert.is_older_than(max_age, now)) {
            return Some(Skip::TooOld);
        }
        unwanted(&self.tenants, alert.tenant.as_deref()).then_some(Skip::UnwantedTenant)
    }

    /// Whether the detection source of an alert makes a difference.
    pub fn looks_at_detection_sources(&self) -> bool {
        !self.detection_sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::alert::AlertId;

    const NOW: Timestamp = Timestamp::constant(1_795_000_000, 0);
    const HOUR: Duration = Duration::from_hours(1);

    fn alert(severity: Severity, tenant: Option<&str>, age: Option<Duration>) -> Alert {
        Alert {
            id: AlertId::parse("a").unwrap(),
            tenant: tenant.map(Into::into),
            severity,
            updated: age.map(|age| NOW - age),
            created: None,
        }
    }

    fn filter() -> Filter {
        Filter {
            severities: vec![Severity::High, Severity::Medium],
            detection_sources: vec!["EDR".into(), "customTi".into()],
            max_age: Some(24 * HOUR),
            tenants: vec!["one".into(), "two".into()],
        }
    }

    #[rstest]
    #[case::wanted(alert(Severity::High, Some("two"), Some(HOUR)), Some("edr"), None)]
    #[case::nothing_told(alert(Severity::Medium, None, None), None, None)]
    #[case::severity(alert(Severity::Low, None, None), None, Some(Skip::UnwantedSeverity))]
    #[case::no_severity(alert(Severity::Unspecified, None, None), None, Some(Skip::UnwantedSeverity))]
    #[case::source(alert(Severity::High, None, None), Some("Antivirus"), Some(Skip::UnwantedDetectionSource))]
    #[case::age(alert(Severity::High, None, Some(25 * HOUR)), None, Some(Skip::TooOld))]
    #[case::just_young_enough(alert(Severity::High, None, Some(24 * HOUR)), None, None)]
    #[case::tenant(alert(Severity::High, Some("three"), None), None, Some(Skip::UnwantedTenant))]
    fn each_condition_has_a_reason_of_its_own(
        #[case] alert: Alert,
        #[case] source: Option<&str>,
        #[case] expected: Option<Skip>,
    ) {
        assert_eq!(filter().refuses(&alert, source, NOW), expected);
        assert_eq!(Filter::default().refuses(&alert, source, NOW), None);
    }
}
