//! An alert of Microsoft Graph's `security/alerts_v2`, of whichever product.
//!
//! `/id` is the id as the service knows it, with its prefix; `/providerAlertId` may lack that.

use super::{Fields, InputFormat, Reading, Rejection, Shape, product};
use crate::domain::{alert::Alert, outcome::Skip};

pub(super) const SHAPE: Shape = Shape {
    name: "a Graph alert",
    format: InputFormat::Graph,
    pointers: &[ID, TYPE, PROVIDER_ID, TENANT, SEVERITY, UPDATED, CREATED, SERVICE_SOURCE],
    detection_sources: &["/detectionSource"],
    read,
};

const ID: &str = "/id";
const TYPE: &str = "/@odata.type";
const PROVIDER_ID: &str = "/providerAlertId";
const TENANT: &str = "/tenantId";
const SEVERITY: &str = "/severity";
const UPDATED: &str = "/lastUpdateDateTime";
const CREATED: &str = "/createdDateTime";
const SERVICE_SOURCE: &str = "/serviceSource";

fn read(alert: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let has = |pointer| alert.has(pointer);
    let is_typed = alert.text(TYPE)?.is_some_and(|name| name.ends_with("microsoft.graph.security.alert"));
    let likely = has(ID) && [UPDATED, CREATED, SERVICE_SOURCE].into_iter().any(has);
    if !(is_typed || has(PROVIDER_ID) || likely) {
        return Ok(None);
    }
    let service_source = alert.text(SERVICE_SOURCE)?;
    if service_source.is_some_and(product::is_other) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    Ok(Some(Reading::of(
        service_source,
        Alert {
            id: alert.alert_id(ID)?,
            tenant: alert.tenant(TENANT)?,
            severity: alert.severity(SEVERITY)?,
            updated: alert.time(UPDATED)?,
            created: alert.time(CREATED)?,
        },
    )))
}
