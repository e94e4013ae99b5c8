//! A detection of the SIEM API, of which one alert may have many.
//!
//! The alert is `/AlertId`; `/FullId` is that and a hash, `/ExternalId` a hash alone. A detection tells no tenant.
//! `/LastProcessedTimeUtc` is when the service took it in, the nearest it tells to a last update.

use super::{Fields, InputFormat, Reading, Rejection, Shape};
use crate::domain::alert::Alert;

pub(super) const SHAPE: Shape = Shape {
    name: "a SIEM detection",
    format: InputFormat::SiemDetection,
    pointers: &[ID, LINK, SEVERITY, UPDATED, CREATED],
    detection_sources: &["/Source"],
    read,
};

const ID: &str = "/AlertId";
const LINK: &str = "/LinkToWDATP";
const SEVERITY: &str = "/Severity";
const UPDATED: &str = "/LastProcessedTimeUtc";
const CREATED: &str = "/AlertTime";

fn read(detection: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let has = |pointer| detection.has(pointer);
    if !(has(LINK) || has(ID) && [SEVERITY, UPDATED, CREATED].into_iter().any(has)) {
        return Ok(None);
    }
    Ok(Some(Reading::of(
        None,
        Alert {
            id: detection.alert_id(ID)?,
            tenant: None,
            severity: detection.severity(SEVERITY)?,
            updated: detection.time(UPDATED)?,
            created: detection.time(CREATED)?,
        },
    )))
}
