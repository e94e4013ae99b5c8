//! What messages look like: those that are read and those that are published.

use super::pointer::Pointer;

/// Which messages are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InputFormat {
    /// Each object by its shape; where a mapping is given, it is asked first.
    #[default]
    Auto,
    /// Rows of the Defender XDR streaming API: `AlertInfo`, `AlertEvidence` and the older `AlertEvents`.
    Streaming,
    /// Alert resources of the service.
    AlertResource,
    /// Alerts of Microsoft Graph, `security/alerts_v2`.
    Graph,
    /// Alerts of Microsoft Graph, `security/alerts`.
    GraphLegacy,
    /// Detections of the SIEM API.
    SiemDetection,
    /// Events in the Elastic Common Schema.
    Ecs,
    /// Nothing but alert ids.
    BareId,
    /// What the mapping reads, and nothing else.
    Custom,
}

impl InputFormat {
    pub const ALL: [Self; 9] = [
        Self::Auto,
        Self::Streaming,
        Self::AlertResource,
        Self::Graph,
        Self::GraphLegacy,
        Self::SiemDetection,
        Self::Ecs,
        Self::BareId,
        Self::Custom,
    ];

    /// As written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Streaming => "streaming",
            Self::AlertResource => "alert-resource",
            Self::Graph => "graph",
            Self::GraphLegacy => "graph-legacy",
            Self::SiemDetection => "siem-detection",
            Self::Ecs => "ecs",
            Self::BareId => "bare-id",
            Self::Custom => "custom",
        }
    }
}

/// Where an alert is in the messages of a pipeline of the operator's own. All pointers but `records` begin at one alert; what an
/// alert of a list has not there is looked for, but for the id, from the object on that holds the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// An object that has nothing here is none of these.
    pub id: Pointer,
    pub severity: Option<Pointer>,
    pub tenant: Option<Pointer>,
    pub updated: Option<Pointer>,
    pub created: Option<Pointer>,
    /// Where a message has its list of alerts, if it has one. Its first step is none of the others' first steps.
    pub records: Option<Pointer>,
}

impl Mapping {
    /// Those that begin at one alert.
    pub fn of_an_alert(&self) -> impl Iterator<Item = &Pointer> {
        let Self { id, severity, tenant, updated, created, records: _ } = self;
        [id].into_iter().chain([severity, tenant, updated, created].into_iter().flatten())
    }
}
