//! What became of one alert.

use jiff::Timestamp;

use super::related_ips::RelatedIps;

/// What the service finally said about an alert, published as one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub status: Status,
    /// Empty but for [`Status::Found`].
    pub ips: RelatedIps,
    /// When the answer was given, by this host's clock as far as the service's [agrees](super::service_clock::given_at); for
    /// [`Status::Expired`] when that was decided, by this host's.
    pub retrieved_at: Timestamp,
}

/// The `status` of an output record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// The service knows the alert and names at least one valid address.
    Found,
    /// The service knows the alert and names no valid address.
    Empty,
    /// The service does not know the alert, also after the re-asks.
    NotFound,
    /// The alert is older than `max_age`, so it was not asked about.
    Expired,
}

impl Status {
    pub const ALL: [Self; 4] = [Self::Found, Self::Empty, Self::NotFound, Self::Expired];

    /// As written in output records and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Empty => "empty",
            Self::NotFound => "not_found",
            Self::Expired => "expired",
        }
    }
}

/// Why a record, or one alert of it, goes to the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub reason: Reason,
    /// For a person: what was wrong and what to do. No secret; hostile text only escaped.
    pub detail: String,
}

/// The reason codes of dead letters, bounded so that they can label a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The payload is not JSON (or not UTF-8, cut off, nested too deeply).
    NotJson,
    /// The payload is compressed, or written with a schema, and no JSON can be made of it.
    NotUnpacked,
    /// The payload is JSON, but of no known shape.
    UnknownShape,
    /// An alert has no id, or one outside the accepted pattern.
    InvalidAlertId,
    /// No account is configured for the alert's tenant.
    UnknownTenant,
    /// The service refuses this question for good (400 and the like).
    Refused,
    /// The service kept answering this question with something that is no answer.
    BadResponse,
    /// This question failed for a day while others were answered.
    Poison,
    /// The output record is larger than the broker takes.
    TooLarge,
}

impl Reason {
    pub const ALL: [Self; 9] = [
        Self::NotJson,
        Self::NotUnpacked,
        Self::UnknownShape,
        Self::InvalidAlertId,
        Self::UnknownTenant,
        Self::Refused,
        Self::BadResponse,
        Self::Poison,
        Self::TooLarge,
    ];

    /// As written in the dead letter's header and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotUnpacked => "not_unpacked",
            Self::UnknownShape => "unknown_shape",
            Self::InvalidAlertId => "invalid_alert_id",
            Self::UnknownTenant => "unknown_tenant",
            Self::Refused => "refused",
            Self::BadResponse => "bad_response",
            Self::Poison => "poison",
            Self::TooLarge => "too_large",
        }
    }

    /// What to do, for a person; then the dead letter can be sent back with `alert-ips replay`.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NotJson => "mend what writes to the topic: what was cut off or mangled can't be made whole from here",
            Self::NotUnpacked => {
                "mend what writes to the topic, or input.schema_registry if the schema is what is missing; then replay"
            }
            Self::UnknownShape => {
                "say where the id is with [input.custom], or mend what writes to the topic; then replay"
            }
            Self::InvalidAlertId => {
                "if the id is in another field, say where with [input.custom], then replay; else mend what writes to the topic"
            }
            Self::UnknownTenant => {
                "add [accounts.NAME] with the tenant's tenant_id, or say where the tenant is with [input.custom]; then replay"
            }
            Self::Refused => {
                "the service refuses this id: look whether it is one of another product; else replay once the service answers"
            }
            Self::BadResponse => {
                "look for a proxy that answers in the service's place, or for an outage of the service; then replay"
            }
            Self::Poison => "look at the answers in detail with `alert-ips lookup`; replay once the service answers",
            Self::TooLarge => {
                "raise max.message.bytes of the output's topic, and message.max.bytes in kafka.properties; then replay"
            }
        }
    }
}

/// Why a record, or a part of it, needs neither a call nor an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// A null payload.
    Tombstone,
    /// A list without a single alert, as pollers emit it.
    EmptyPage,
    /// A streaming row of a table that is about no alert.
    OtherTable,
    /// An alert of another product, about which this service knows nothing.
    OtherProduct,
    /// The operator's filter leaves out alerts of this severity, …
    UnwantedSeverity,
    /// … alerts found by this detection source, …
    UnwantedDetectionSource,
    /// … alerts of this age, …
    TooOld,
    /// … or alerts of this tenant.
    UnwantedTenant,
}

impl Skip {
    pub const ALL: [Self; 8] = [
        Self::Tombstone,
        Self::EmptyPage,
        Self::OtherTable,
        Self::OtherProduct,
        Self::UnwantedSeverity,
        Self::UnwantedDetectionSource,
        Self::TooOld,
        Self::UnwantedTenant,
    ];

    /// As written in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::EmptyPage => "empty_page",
            Self::OtherTable => "other_table",
            Self::OtherProduct => "other_product",
            Self::UnwantedSeverity => "unwanted_severity",
            Self::UnwantedDetectionSource => "unwanted_detection_source",
            Self::TooOld => "too_old",
            Self::UnwantedTenant => "unwanted_tenant",
        }
    }
}
