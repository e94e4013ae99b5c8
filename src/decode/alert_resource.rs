//! An alert resource of the service, an item of `GET /api/alerts`, in the form of 2019 or of now.
//!
//! The form of 2019 has no `aadTenantId`. Filebeat splits a resource by its evidence, so that `evidence` is an object and
//! the same alert comes several times. Whatever has an `id` and one of the resource's own members is read as one, so that
//! a pipeline may have cut the rest.

use super::{Fields, InputFormat, Reading, Rejection, Shape};
use crate::domain::alert::Alert;

pub(super) const SHAPE: Shape = Shape {
    name: "an alert resource",
    format: InputFormat::AlertResource,
    pointers: &[ID, MACHINE, TENANT, SEVERITY, UPDATED, CREATED],
    detection_sources: &["/detectionSource"],
    read,
};

const ID: &str = "/id";
const MACHINE: &str = "/machineId";
const TENANT: &str = "/aadTenantId";
const SEVERITY: &str = "/severity";
const UPDATED: &str = "/lastUpdateTime";
const CREATED: &str = "/alertCreationTime";

fn read(object: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let has = |pointer| object.has(pointer);
    let unmistakable = has(CREATED) && has(MACHINE);
    let likely = has(ID) && [CREATED, UPDATED, SEVERITY, MACHINE, TENANT].into_iter().any(has);
    if !(unmistakable || likely) {
        return Ok(None);
    }
    Ok(Some(Reading::of(
        None,
        Alert {
            id: object.alert_id(ID)?,
            tenant: object.tenant(TENANT)?,
            severity: object.severity(SEVERITY)?,
            updated: object.time(UPDATED)?,
            created: object.time(CREATED)?,
        },
    )))
}
