//! A row of the Defender XDR streaming API, inside an Event Hubs envelope or on its own.
//!
//! `category` names the table. The row's tenant is `/tenantId` (`/Tenant` is a label such as `DefaultTenant`), its alert
//! id `/properties/AlertId`. Rows tell no last update; `/properties/Timestamp` is the time of the event behind the
//! alert, so the creation is taken from the id's ticks, else from `/time`, when the row was received.

use super::{Object, Reading, Rejection, Skip};
use crate::domain::alert::Alert;

const CATEGORY_PREFIX: &str = "AdvancedHunting-";

/// The tables about alerts. `AlertEvents` is the one of the time before `AlertInfo` and `AlertEvidence`.
const ALERT_TABLES: [&str; 3] = ["AlertInfo", "AlertEvidence", "AlertEvents"];

/// The `ServiceSource` whose alerts the service knows.
const ENDPOINT: &str = "Microsoft Defender for Endpoint";

pub(super) fn read<'a>(row: &Object<'a>) -> Result<Option<Reading<'a>>, Rejection> {
    let category = row.text("category")?;
    let Some(table) = category.as_deref().and_then(|category| category.strip_prefix(CATEGORY_PREFIX)) else {
        return Ok(None);
    };
    if !ALERT_TABLES.contains(&table) {
        return Ok(Some(Reading::Skip(Skip::OtherTable)));
    }
    let properties = row.object("properties")?.unwrap_or_default();
    let of_another_product = |source: &str| !source.is_empty() && !source.eq_ignore_ascii_case(ENDPOINT);
    if properties.text("ServiceSource")?.as_deref().is_some_and(of_another_product) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    let id = properties.alert_id("AlertId")?;
    let received = row.time("time")?;
    Ok(Some(Reading::Alert(Alert {
        tenant: row.tenant("tenantId")?,
        severity: properties.severity("Severity")?,
        updated: None,
        created: id.created().or(received),
        id,
    })))
}
