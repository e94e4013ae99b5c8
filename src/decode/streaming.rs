//! A row of the Defender XDR streaming API, inside an Event Hubs envelope or on its own.
//!
//! `category` names the table. The row's tenant is `/tenantId` (`/Tenant` is a label such as `DefaultTenant`), its alert
//! id `/properties/AlertId`. Rows tell no last update; `/properties/Timestamp` is the time of the event behind the
//! alert, so the creation is taken from the id's ticks, else from `/time`, when the row was received.

use super::{Fields, Reading, Rejection, Shape};
use crate::domain::{alert::Alert, outcome::Skip};

pub(super) const SHAPE: Shape =
    Shape { name: "a streaming row", pointers: &[CATEGORY, TENANT, TIME, ID, SEVERITY, SERVICE_SOURCE], read };

const CATEGORY: &str = "/category";
const TENANT: &str = "/tenantId";
const TIME: &str = "/time";
const ID: &str = "/properties/AlertId";
const SEVERITY: &str = "/properties/Severity";
const SERVICE_SOURCE: &str = "/properties/ServiceSource";

const CATEGORY_PREFIX: &str = "AdvancedHunting-";

/// The tables about alerts. `AlertEvents` is the one of the time before `AlertInfo` and `AlertEvidence`.
const ALERT_TABLES: [&str; 3] = ["AlertInfo", "AlertEvidence", "AlertEvents"];

/// The `ServiceSource` whose alerts the service knows.
const ENDPOINT: &str = "Microsoft Defender for Endpoint";

fn read(row: &Fields<'_>) -> Result<Option<Reading>, Rejection> {
    let Some(table) = row.text(CATEGORY)?.and_then(|category| category.strip_prefix(CATEGORY_PREFIX)) else {
        return Ok(None);
    };
    if !ALERT_TABLES.contains(&table) {
        return Ok(Some(Reading::Skip(Skip::OtherTable)));
    }
    let of_another_product = |source: &str| !source.is_empty() && !source.eq_ignore_ascii_case(ENDPOINT);
    if row.text(SERVICE_SOURCE)?.is_some_and(of_another_product) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    let id = row.alert_id(ID)?;
    let received = row.time(TIME)?;
    Ok(Some(Reading::Alert(Alert {
        tenant: row.tenant(TENANT)?,
        severity: row.severity(SEVERITY)?,
        updated: None,
        created: id.created().or(received),
        id,
    })))
}
