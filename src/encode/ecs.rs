//! An event of kind `enrichment` in the Elastic Common Schema: context to the alert with the same `event.id`.
//!
//! The addresses stand in `related.ip`, by which one pivots, and not in `threat.indicator`, which would match them as known bad.

use std::net::IpAddr;

use serde::Serialize;

use super::{Related, document::scope_of, embedded::Embedded};
use crate::domain::scope;

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "ecs"))]
pub(super) struct Enrichment<'a> {
    /// When the answer was obtained: RFC 3339, UTC, milliseconds.
    #[serde(rename = "@timestamp")]
    timestamp: &'a str,
    ecs: Ecs,
    event: Fields<'a>,
    cloud: Cloud<'a>,
    related: RelatedFields<'a>,
    alert_ips: Own<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Ecs {
    version: &'static str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Fields<'a> {
    kind: &'static str,
    module: &'static str,
    dataset: &'static str,
    provider: &'static str,
    /// The alert's id.
    id: &'a str,
    /// The alert as it was read, as text, where the output embeds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<&'a str>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Cloud<'a> {
    provider: &'static str,
    account: Account<'a>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Account<'a> {
    /// The alert's directory.
    id: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct RelatedFields<'a> {
    ip: &'a [IpAddr],
}

/// What the schema has no field for.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Own<'a> {
    /// found, empty, `not_found` or expired.
    status: &'static str,
    /// How many addresses the alert has, also where the output wants only some of them.
    count: usize,
    addresses: Vec<Address>,
    /// The same for all copies of a record: topic, partition and offset of the message that was read, and the place in it.
    record: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Address {
    ip: IpAddr,
    version: u8,
    /// How far it reaches: public, private, loopback, …
    scope: &'static str,
}

impl<'a> Enrichment<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        let address = |ip: &IpAddr| Address { ip: *ip, version: scope::version(*ip), scope: scope_of(*ip) };
        Self {
            timestamp: related.retrieved_text,
            ecs: Ecs { version: "8.17.0" },
            event: Fields {
                kind: "enrichment",
                module: "microsoft_defender_endpoint",
                dataset: "microsoft_defender_endpoint.alert_ips",
                provider: "alert-ips",
                id: related.alert.id.as_str(),
                original: related.embedded.map(Embedded::text),
            },
            cloud: Cloud { provider: "azure", account: Account { id: related.tenant } },
            related: RelatedFields { ip: related.ips },
            alert_ips: Own {
                status: related.outcome.status.as_str(),
                count: related.all_ips,
                addresses: related.ips.iter().map(address).collect(),
                record: related.id,
            },
        }
    }
}
