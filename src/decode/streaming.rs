//! A row of the Defender XDR streaming API, inside an Event Hubs envelope or on its own.
//!
//! `category` names the table. The row's tenant is `/tenantId` (`/Tenant` is a label such as `DefaultTenant`), its alert
//! id `/properties/AlertId`. Rows tell no last update; `/properties/Timestamp` is the time of the event behind the
//! alert, so the creation is taken from the id's ticks, else from `/time`, when the row was received.

use super::{Fields, InputFormat, Reading, Rejection, Shape, product};
use crate::domain::{alert::Alert, outcome::Skip};

pub(super) const SHAPE: Shape = Shape {
    name: "a streaming row",
    format: InputFormat::Streaming,
    pointers: &[CATEGORY, TENANT, TIME, ID, SEVERITY, SERVICE_SOURCE],
    detection_sources: &["/properties/DetectionSource"],
    read,
};

const CATEGORY: &str = "/category";
const TENANT: &str = "/tenantId";
const TIME: &str = "/time";
const ID: &str = "/properties/AlertId";
const SEVERITY: &str = "/properties/Severity";
const SERVICE_SOURCE: &str = "/properties/ServiceSource";

const CATEGORY_PREFIX: &str = "AdvancedHunting-";

/// The tables about alerts. `AlertEvents` is the one of the time before `AlertInfo` and `AlertEvidence`.
const ALERT_TABLES: [&str; 3] = ["AlertInfo", "AlertEvidence", "AlertEvents"];

fn read(row: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let Some(is_of_alerts) = row.text(CATEGORY)?.and_then(is_of_alerts) else { return Ok(None) };
    if !is_of_alerts {
        return Ok(Some(Reading::Skip(Skip::OtherTable)));
    }
    let service_source = row.text(SERVICE_SOURCE)?;
    if service_source.is_some_and(product::is_other) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    let id = row.alert_id(ID)?;
    let received = row.time(TIME)?;
    Ok(Some(Reading::of(
        service_source,
        Alert {
            tenant: row.tenant(TENANT)?,
            severity: row.severity(SEVERITY)?,
            updated: None,
            created: id.created().or(received),
            id,
        },
    )))
}

/// Whether the table that `category` names is about alerts; `None`: it names none.
pub(super) fn is_of_alerts(category: &str) -> Option<bool> {
    category.strip_prefix(CATEGORY_PREFIX).map(|table| ALERT_TABLES.contains(&table))
}
