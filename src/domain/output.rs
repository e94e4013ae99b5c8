//! What is published of an outcome: the form, and which of it.

use std::net::IpAddr;

use super::{
    outcome::{Outcome, Status},
    scope::Scope,
};

/// How output records are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// One flat JSON object: `alert_id`, `ips`, `status`, `tenant_id`, `retrieved_at`.
    #[default]
    Json,
    /// The envelope of Splunk's HTTP Event Collector.
    SplunkHec,
    /// A row for the Logs Ingestion API of Microsoft Sentinel.
    Sentinel,
    /// A Detection Finding of OCSF 1.8.
    Ocsf,
    /// An event of kind `enrichment` in the Elastic Common Schema.
    Ecs,
    /// `CloudEvents` 1.0 in structured mode around the JSON object.
    CloudEvents,
}

impl OutputFormat {
    pub const ALL: [Self; 6] = [Self::Json, Self::SplunkHec, Self::Sentinel, Self::Ocsf, Self::Ecs, Self::CloudEvents];

    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::SplunkHec => "splunk-hec",
            Self::Sentinel => "sentinel",
            Self::Ocsf => "ocsf",
            Self::Ecs => "ecs",
            Self::CloudEvents => "cloudevents",
        }
    }
}

/// What one record is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Granularity {
    #[default]
    PerAlert,
    /// One of its addresses; an alert without any is one record all the same.
    PerIp,
}

/// Where Splunk files an event. What is `None` is its own default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splunk {
    pub index: Option<String>,
    pub source: Option<String>,
    pub sourcetype: Option<String>,
    pub host: Option<String>,
    /// Whether that is told in headers too, for connectors that read it there.
    pub headers: bool,
}

/// One output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub format: OutputFormat,
    pub granularity: Granularity,
    /// Whether the alert is embedded as it was read.
    pub include_alert: bool,
    /// Only outcomes of these; empty: all.
    pub statuses: Vec<Status>,
    /// Only addresses of these; empty: all.
    pub scopes: Vec<Scope>,
    pub splunk: Splunk,
}

impl Output {
    /// The addresses that this output publishes of an outcome; `None`: it publishes nothing of it. Where an alert has
    /// addresses, and none that is wanted, there is nothing to be told.
    pub fn wanted(&self, outcome: &Outcome) -> Option<Vec<IpAddr>> {
        if !self.statuses.is_empty() && !self.statuses.contains(&outcome.status) {
            return None;
        }
        let all = outcome.ips.as_slice();
        let is_wanted = |ip: &&IpAddr| self.scopes.is_empty() || self.scopes.contains(&Scope::of(**ip));
        let wanted: Vec<_> = all.iter().filter(is_wanted).copied().collect();
        (all.is_empty() || !wanted.is_empty()).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::domain::related_ips::RelatedIps;

    #[rstest]
    #[case::everything(&[], &[], Status::Found, &["10.0.0.1", "1.1.1.1"], Some(2))]
    #[case::of_a_scope(&[], &[Scope::Public], Status::Found, &["10.0.0.1", "1.1.1.1"], Some(1))]
    #[case::none_of_it(&[], &[Scope::Public], Status::Found, &["10.0.0.1"], None)]
    #[case::nothing_there(&[], &[Scope::Public], Status::Empty, &[], Some(0))]
    #[case::of_a_status(&[Status::Found], &[], Status::Found, &["10.0.0.1"], Some(1))]
    #[case::of_another(&[Status::Found], &[], Status::NotFound, &[], None)]
    fn an_output_publishes_what_it_is_asked_for(
        #[case] statuses: &[Status],
        #[case] scopes: &[Scope],
        #[case] status: Status,
        #[case] ips: &[&str],
        #[case] wanted: Option<usize>,
    ) {
        let output = Output { statuses: statuses.to_vec(), scopes: scopes.to_vec(), ..Output::default() };
        let ips = RelatedIps::from_texts(ips.iter().copied());
        let outcome = Outcome { status, ips, retrieved_at: jiff::Timestamp::UNIX_EPOCH };
        assert_eq!(output.wanted(&outcome).map(|ips| ips.len()), wanted);
    }
}
