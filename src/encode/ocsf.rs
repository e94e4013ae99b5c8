//! A Detection Finding (class 2004) of the Open Cybersecurity Schema Framework, 1.8.0: an update of what Defender found.
//!
//! The service does not say in which direction an address was met, so each stands in the `data` of a piece of evidence, and
//! not as a source or destination. An observable points at what is elsewhere in the event.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;

use super::{Related, document::scope_of, embedded::Embedded};
use crate::domain::{alert::Severity, outcome::Status, scope};

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "ocsf"))]
pub(super) struct DetectionFinding<'a> {
    category_uid: u8,
    category_name: &'static str,
    class_uid: u16,
    class_name: &'static str,
    activity_id: u8,
    activity_name: &'static str,
    type_uid: u32,
    type_name: &'static str,
    severity_id: u8,
    severity: &'static str,
    /// When the answer was obtained: milliseconds since 1970.
    time: i64,
    message: String,
    metadata: Metadata<'a>,
    finding_info: FindingInfo<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    evidences: Vec<Evidence>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    observables: Vec<Observable>,
    /// What the class has no attribute for.
    unmapped: Unmapped<'a>,
    /// The alert as it was read, as text, where the output embeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw_data: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Metadata<'a> {
    /// Of the schema.
    version: &'static str,
    product: Product,
    /// The same for all copies of a record: topic, partition and offset of the message that was read, and the place in it.
    uid: &'a str,
    tenant_uid: &'a str,
    processed_time: i64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Product {
    name: &'static str,
    vendor_name: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct FindingInfo<'a> {
    /// The alert's id.
    uid: &'a str,
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    modified_time: Option<i64>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Evidence {
    name: &'static str,
    uid: IpAddr,
    data: Data,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Data {
    ip: IpAddr,
    version: u8,
    /// How far it reaches: public, private, loopback, …
    scope: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Observable {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    type_id: u8,
    value: IpAddr,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Unmapped<'a> {
    /// found, empty, `not_found` or expired.
    status: &'static str,
    alert_id: &'a str,
}

impl<'a> DetectionFinding<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        let (severity_id, severity) = severity(related.alert.severity);
        let time = related.outcome.retrieved_at.as_millisecond();
        let (alert_id, status) = (related.alert.id.as_str(), related.outcome.status.as_str());
        let millis = |time: Option<Timestamp>| time.map(Timestamp::as_millisecond);
        Self {
            category_uid: 2,
            category_name: "Findings",
            class_uid: 2004,
            class_name: "Detection Finding",
            activity_id: 2,
            activity_name: "Update",
            type_uid: 200_402,
            type_name: "Detection Finding: Update",
            severity_id,
            severity,
            time,
            message: message(related.outcome.status, related.all_ips),
            metadata: Metadata {
                version: "1.8.0",
                product: Product { name: "Microsoft Defender for Endpoint", vendor_name: "Microsoft" },
                uid: related.id,
                tenant_uid: related.tenant,
                processed_time: time,
            },
            finding_info: FindingInfo {
                uid: alert_id,
                title: "Microsoft Defender for Endpoint alert",
                created_time: millis(related.alert.creation()),
                modified_time: millis(related.alert.updated),
            },
            evidences: related.ips.iter().copied().map(Evidence::of).collect(),
            observables: related.ips.iter().copied().enumerate().map(Observable::of).collect(),
            unmapped: Unmapped { status, alert_id },
            raw_data: related.embedded.map(Embedded::text),
        }
    }
}

impl Evidence {
    fn of(ip: IpAddr) -> Self {
        Self { name: "ip", uid: ip, data: Data { ip, version: scope::version(ip), scope: scope_of(ip) } }
    }
}

impl Observable {
    fn of((number, ip): (usize, IpAddr)) -> Self {
        Self { name: format!("evidences[{number}].data.ip"), kind: "IP Address", type_id: 2, value: ip }
    }
}

fn message(status: Status, ips: usize) -> String {
    match (status, ips) {
        (Status::Found, 1) => "1 IP address is related to the alert".to_owned(),
        (Status::Found, many) => format!("{many} IP addresses are related to the alert"),
        (Status::Empty, _) => "no IP address is related to the alert".to_owned(),
        (Status::NotFound, _) => "related IP addresses are not known: the service does not know the alert".to_owned(),
        (Status::Expired, _) => {
            "related IP addresses are not known: the alert was too old to be asked about".to_owned()
        }
    }
}

const fn severity(severity: Severity) -> (u8, &'static str) {
    match severity {
        Severity::Unspecified => (0, "Unknown"),
        Severity::Informational => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
    }
}
