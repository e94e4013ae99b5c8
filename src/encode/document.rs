//! The default format: one flat JSON object with exactly the documented members, in their documented order. Other formats carry
//! it, or parts of it.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Related, embedded::Embedded};
use crate::domain::{
    output::Granularity,
    scope::{self, Scope},
};

/// What became of an alert.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(title = "json"))]
pub(super) struct Document<'a> {
    /// The alert's id, as the service knows it.
    alert_id: &'a str,
    #[serde(flatten)]
    addresses: Addresses<'a>,
    /// found, empty (the service knows the alert, and no address), `not_found` or expired (not asked about).
    status: &'static str,
    /// The alert's directory.
    tenant_id: &'a str,
    /// When the answer was obtained: RFC 3339, UTC, milliseconds.
    retrieved_at: &'a str,
    /// The alert as it was read, where the output embeds it; as a text, where not every parser takes its JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    alert: Option<&'a RawValue>,
}

/// The addresses of one record.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub(super) enum Addresses<'a> {
    /// One record for each alert.
    PerAlert {
        /// In the service's order, each once.
        ips: &'a [IpAddr],
    },
    /// One record for each address; null where there is none.
    PerIp {
        ip: Option<IpAddr>,
        /// 4 or 6.
        ip_version: Option<u8>,
        /// How far it reaches: public, private, loopback, …
        ip_scope: Option<&'static str>,
    },
}

impl<'a> Document<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        Self {
            alert_id: related.alert.id.as_str(),
            addresses: Addresses::of(related),
            status: related.outcome.status.as_str(),
            tenant_id: related.tenant,
            retrieved_at: related.retrieved_text,
            alert: related.embedded.and_then(Embedded::json),
        }
    }
}

impl<'a> Addresses<'a> {
    pub(super) fn of(related: &Related<'a>) -> Self {
        match related.granularity {
            Granularity::PerAlert => Self::PerAlert { ips: related.ips },
            Granularity::PerIp => {
                let ip = related.ips.first().copied();
                Self::PerIp { ip, ip_version: ip.map(scope::version), ip_scope: ip.map(scope_of) }
            }
        }
    }
}

pub(super) fn scope_of(ip: IpAddr) -> &'static str {
    Scope::of(ip).as_str()
}
