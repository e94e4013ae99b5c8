//! A row of a custom table of Microsoft Sentinel, as the Logs Ingestion API takes it.
//!
//! Names of columns begin with a letter, have at most 45 of `A-Z a-z 0-9 _`, and are none of the reserved ones (`TenantId`,
//! `Type`, `Title`, `id` and others). A field of more than 64 KB would be cut, and a message of more than that is not taken
//! by way of Event Hubs: so an alert with very many addresses has several rows (Azure Monitor service limits, Logs
//! Ingestion API and custom logs).

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Related, document::scope_of, embedded::Embedded};
use crate::domain::{output::Granularity, scope};

/// Of the longest addresses these take 50 KB with all that is said of them.
pub(super) const MOST_ADDRESSES: usize = 350;

/// Of a row with its key and headers. What is embedded gets what the rest leaves.
pub(super) const MOST_BYTES: usize = 64_000;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "sentinel", deny_unknown_fields))]
#[serde(rename_all = "PascalCase")]
pub(super) struct Row<'a> {
    /// When the answer was obtained: RFC 3339, UTC, milliseconds.
    time_generated: &'a str,
    /// The same: Azure Monitor replaces `TimeGenerated` where a row comes more than two days late.
    retrieved_at: &'a str,
    /// `SecurityAlert.VendorOriginalId` has the same.
    alert_id: &'a str,
    alert_tenant_id: &'a str,
    alert_severity: &'static str,
    /// found, empty, `not_found` or expired.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_addresses: Option<&'a [IpAddr]>,
    /// How far each of them reaches: public, private, loopback, …
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_scopes: Option<Vec<&'static str>>,
    /// As in `SecurityAlert.Entities`.
    #[serde(skip_serializing_if = "Option::is_none")]
    entities: Option<Vec<Entity>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_version: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_scope: Option<&'static str>,
    /// How many addresses the alert has, in all of its rows and, where the output wants only some, beside them.
    ip_count: usize,
    /// Which of the alert's rows this is, from 1.
    part: usize,
    parts: usize,
    /// The same for all copies of a row: topic, partition and offset of the message that was read, and the place in it.
    source_record: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    alert: Option<&'a RawValue>,
}

/// An IP entity.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Entity {
    #[serde(rename = "$id")]
    id: String,
    #[serde(rename = "Address")]
    address: IpAddr,
    #[serde(rename = "Type")]
    kind: &'static str,
}

impl<'a> Row<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        let is_per_alert = related.granularity == Granularity::PerAlert;
        let ip = related.ips.first().copied().filter(|_| !is_per_alert);
        // Those of all parts together are one list.
        let first_entity = related.part * MOST_ADDRESSES + 1;
        let entity =
            |(number, address): (usize, &IpAddr)| Entity { id: number.to_string(), address: *address, kind: "ip" };
        Self {
            time_generated: related.retrieved_text,
            retrieved_at: related.retrieved_text,
            alert_id: related.alert.id.as_str(),
            alert_tenant_id: related.tenant,
            alert_severity: related.alert.severity.as_str(),
            status: related.outcome.status.as_str(),
            ip_addresses: is_per_alert.then_some(related.ips),
            ip_scopes: is_per_alert.then(|| related.ips.iter().copied().map(scope_of).collect()),
            entities: is_per_alert.then(|| (first_entity..).zip(related.ips).map(entity).collect()),
            ip_address: ip,
            ip_version: ip.map(scope::version),
            ip_scope: ip.map(scope_of),
            ip_count: related.all_ips,
            part: related.part + 1,
            parts: related.parts,
            source_record: related.id,
            alert: related.embedded.filter(|_| related.part == 0).and_then(Embedded::json),
        }
    }
}
