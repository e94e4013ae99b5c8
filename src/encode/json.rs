//! The default format: one flat JSON object with exactly the documented members, in their documented order.

use std::net::IpAddr;

use serde::Serialize;

use super::Related;

#[derive(Serialize)]
struct Document<'a> {
    alert_id: &'a str,
    ips: &'a [IpAddr],
    status: &'static str,
    tenant_id: &'a str,
    retrieved_at: &'a str,
}

pub(super) fn write(related: &Related<'_>) -> Vec<u8> {
    let document = Document {
        alert_id: related.alert.id.as_str(),
        ips: related.outcome.ips.as_slice(),
        status: related.outcome.status.as_str(),
        tenant_id: related.tenant,
        retrieved_at: related.retrieved_at,
    };
    let mut payload = Vec::with_capacity(256 + 42 * document.ips.len());
    // Texts, addresses and arrays of them always have a JSON form, and writing to a Vec doesn't fail.
    let written = serde_json::to_writer(&mut payload, &document);
    debug_assert!(written.is_ok(), "a document of texts was not written");
    payload
}
