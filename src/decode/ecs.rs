//! An event in the Elastic Common Schema, as the Elastic integrations and Filebeat's modules make of an alert:
//! `microsoft_defender_endpoint.log`, `m365_defender.alert`, `m365_defender.event`, `m365_defender.incident`,
//! `m365_defender.log`, `microsoft.defender_atp` and `microsoft.m365_defender`.
//!
//! These exist after Elasticsearch's ingest pipeline. What Filebeat itself writes to Kafka has the alert as it was in
//! `message`, where `text` finds it.

use super::{Fields, InputFormat, Reading, Rejection, Shape, product, streaming};
use crate::domain::{
    alert::{Alert, Severity},
    outcome::Skip,
};

pub(super) const SHAPE: Shape = Shape {
    name: "an ECS event",
    format: InputFormat::Ecs,
    pointers: &[
        ID,
        DATASET,
        DATASET_OF_STREAM,
        MODULE,
        PROVIDER,
        SEVERITY_NUMBER,
        CREATED,
        TENANT,
        TENANT_OF_ALERT,
        TENANT_OF_ROW,
        ID_IN_INCIDENT,
        TABLE,
        SEVERITY_OF_ALERT,
        SEVERITY_OF_ROW,
        SEVERITY_IN_INCIDENT,
        SEVERITY_IN_OLD_INCIDENT,
        SEVERITY_BY_FILEBEAT,
        UPDATED_BY_ENDPOINT,
        UPDATED_BY_ATP,
        UPDATED_BY_GRAPH,
        UPDATED_IN_INCIDENT,
        UPDATED_IN_OLD_INCIDENT,
        UPDATED_BY_FILEBEAT,
        CREATED_IN_INCIDENT,
        CREATED_IN_OLD_INCIDENT,
        CREATED_BY_FILEBEAT,
        OLD_INCIDENT,
        OLD_INCIDENT_BY_FILEBEAT,
        SOURCE_OF_ALERT,
        SOURCE_OF_ROW,
        SOURCE_IN_INCIDENT,
    ],
    detection_sources: &[
        "/m365_defender/alert/detection_source",
        "/m365_defender/event/detection/source",
        "/m365_defender/incident/alert/detection_source",
        "/m365_defender/alerts/detectionSource",
        "/microsoft/m365_defender/alerts/detectionSource",
        "/observer/name",
    ],
    read,
};

const ID: &str = "/event/id";
const DATASET: &str = "/event/dataset";
const DATASET_OF_STREAM: &str = "/data_stream/dataset";
const MODULE: &str = "/event/module";
const PROVIDER: &str = "/event/provider";
const SEVERITY_NUMBER: &str = "/event/severity";
const CREATED: &str = "/event/created";
const TENANT: &str = "/cloud/account/id";
const TENANT_OF_ALERT: &str = "/m365_defender/alert/tenant_id";
const TENANT_OF_ROW: &str = "/m365_defender/event/tenant/id";
const INCIDENT: &str = "/m365_defender/incident";
/// There `/event/id` is the incident's.
const ID_IN_INCIDENT: &str = "/m365_defender/incident/alert/id";
const TABLE: &str = "/m365_defender/event/category";
const SEVERITY_OF_ALERT: &str = "/m365_defender/alert/severity";
const SEVERITY_OF_ROW: &str = "/m365_defender/event/severity";
const SEVERITY_IN_INCIDENT: &str = "/m365_defender/incident/alert/severity";
const SEVERITY_IN_OLD_INCIDENT: &str = "/m365_defender/alerts/severity";
const SEVERITY_BY_FILEBEAT: &str = "/microsoft/m365_defender/alerts/severity";
const UPDATED_BY_ENDPOINT: &str = "/microsoft/defender_endpoint/lastUpdateTime";
const UPDATED_BY_ATP: &str = "/microsoft/defender_atp/lastUpdateTime";
const UPDATED_BY_GRAPH: &str = "/m365_defender/alert/last_update_datetime";
const UPDATED_IN_INCIDENT: &str = "/m365_defender/incident/alert/last_update_datetime";
const UPDATED_IN_OLD_INCIDENT: &str = "/m365_defender/alerts/lastUpdatedTime";
const UPDATED_BY_FILEBEAT: &str = "/microsoft/m365_defender/alerts/lastUpdatedTime";
const CREATED_IN_INCIDENT: &str = "/m365_defender/incident/alert/created_datetime";
const CREATED_IN_OLD_INCIDENT: &str = "/m365_defender/alerts/creationTime";
const CREATED_BY_FILEBEAT: &str = "/microsoft/m365_defender/alerts/creationTime";
const OLD_INCIDENT: &str = "/m365_defender/incidentId";
const OLD_INCIDENT_BY_FILEBEAT: &str = "/microsoft/m365_defender/incidentId";
const SOURCE_OF_ALERT: &str = "/m365_defender/alert/service_source";
const SOURCE_OF_ROW: &str = "/m365_defender/event/service_source";
const SOURCE_IN_INCIDENT: &str = "/m365_defender/incident/alert/service_source";

/// The data sets with alerts of Defender.
const DATASETS: [&str; 7] = [
    "microsoft_defender_endpoint.log",
    "m365_defender.alert",
    "m365_defender.event",
    "m365_defender.incident",
    "m365_defender.log",
    "microsoft.defender_atp",
    "microsoft.m365_defender",
];

/// The packages in which all other data sets are about machines, their vulnerabilities and the like.
const PACKAGES: [&str; 2] = ["microsoft_defender_endpoint", "m365_defender"];

/// What only events about alerts have, and incidents.
const MEMBERS: [&str; 4] =
    ["/m365_defender", "/microsoft/defender_endpoint", "/microsoft/defender_atp", "/microsoft/m365_defender"];

/// From which number on an alert is how severe: in the newer packages 21, 47 and 73, informational less; in the older ones and
/// in Filebeat's modules 1 to 4. Neither scale has a number that means something else in the other.
const SEVERITIES: [(f64, Severity); 8] = [
    (73.0, Severity::High),
    (47.0, Severity::Medium),
    (21.0, Severity::Low),
    (5.0, Severity::Informational),
    (4.0, Severity::High),
    (3.0, Severity::Medium),
    (2.0, Severity::Low),
    (1.0, Severity::Informational),
];

fn read(event: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let has = |pointer| event.has(pointer);
    match event.first_text(&[DATASET, DATASET_OF_STREAM, MODULE])?.and_then(is_of_alerts) {
        Some(false) => return Ok(Some(Reading::Skip(Skip::OtherTable))),
        None if !MEMBERS.into_iter().any(has) => return Ok(None),
        Some(true) | None => {}
    }
    if event.text(TABLE)?.and_then(streaming::is_of_alerts) == Some(false) {
        return Ok(Some(Reading::Skip(Skip::OtherTable)));
    }
    // What only has a data set's name is an event before the pipeline, whose alert is in `message`. Incidents may have no alert.
    let id = match [ID_IN_INCIDENT, ID].into_iter().find(|pointer| event.has(pointer)) {
        Some(id) if id == ID_IN_INCIDENT || !has(INCIDENT) => id,
        None if !(has(OLD_INCIDENT) || has(OLD_INCIDENT_BY_FILEBEAT)) => return Ok(None),
        Some(_) | None => return Ok(Some(Reading::Skip(Skip::OtherTable))),
    };
    let product = event.first_text(&[SOURCE_OF_ALERT, SOURCE_OF_ROW, SOURCE_IN_INCIDENT, PROVIDER])?;
    if product.is_some_and(product::is_other) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    let id = event.alert_id(id)?;
    let updated = [
        UPDATED_BY_ENDPOINT,
        UPDATED_BY_ATP,
        UPDATED_BY_GRAPH,
        UPDATED_IN_INCIDENT,
        UPDATED_IN_OLD_INCIDENT,
        UPDATED_BY_FILEBEAT,
    ];
    let created = [CREATED_IN_INCIDENT, CREATED_IN_OLD_INCIDENT, CREATED_BY_FILEBEAT, CREATED];
    Ok(Some(Reading::of(
        product,
        Alert {
            tenant: event.first_tenant(&[TENANT_OF_ALERT, TENANT_OF_ROW, TENANT])?,
            severity: severity(event)?,
            updated: event.first_time(&updated)?,
            created: event.first_time(&created)?.or(id.created()),
            id,
        },
    )))
}

/// Whether the data set or module of this name holds alerts; `None`: it is none of Defender's.
fn is_of_alerts(dataset: &str) -> Option<bool> {
    if DATASETS.contains(&dataset) || PACKAGES.contains(&dataset) {
        return Some(true);
    }
    let (package, _) = dataset.split_once('.')?;
    PACKAGES.contains(&package).then_some(false)
}

/// By its name where that is kept, else by the event's number. An incident's alert has a severity of its own.
fn severity(event: &Fields<'_, '_>) -> Result<Severity, Rejection> {
    let named =
        [SEVERITY_OF_ALERT, SEVERITY_OF_ROW, SEVERITY_IN_INCIDENT, SEVERITY_IN_OLD_INCIDENT, SEVERITY_BY_FILEBEAT];
    if let Some(name) = event.first_text(&named)? {
        return Ok(Severity::parse(name));
    }
    let number = event.number(SEVERITY_NUMBER)?;
    let at_least = SEVERITIES.into_iter().find(|(least, _)| number.is_some_and(|number| number >= *least));
    Ok(at_least.map_or(Severity::Unspecified, |(_, severity)| severity))
}
