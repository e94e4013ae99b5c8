//! An alert of Microsoft Graph's older `security/alerts`, of whichever provider.

use super::{Fields, InputFormat, Reading, Rejection, Shape, product};
use crate::domain::{alert::Alert, outcome::Skip};

pub(super) const SHAPE: Shape = Shape {
    name: "a legacy Graph alert",
    format: InputFormat::GraphLegacy,
    pointers: &[ID, PROVIDER, TENANT, SEVERITY, UPDATED, CREATED, EVENT],
    detection_sources: &[],
    read,
};

const ID: &str = "/id";
const PROVIDER: &str = "/vendorInformation/provider";
const TENANT: &str = "/azureTenantId";
const SEVERITY: &str = "/severity";
const UPDATED: &str = "/lastModifiedDateTime";
const CREATED: &str = "/createdDateTime";
const EVENT: &str = "/eventDateTime";

fn read(alert: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    if !alert.has(PROVIDER) {
        return Ok(None);
    }
    let provider = alert.text(PROVIDER)?;
    if provider.is_some_and(product::is_other) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    Ok(Some(Reading::of(
        provider,
        Alert {
            id: alert.alert_id(ID)?,
            tenant: alert.tenant(TENANT)?,
            severity: alert.severity(SEVERITY)?,
            updated: alert.time(UPDATED)?,
            created: alert.first_time(&[CREATED, EVENT])?,
        },
    )))
}
