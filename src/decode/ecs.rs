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
        UPDATED_BY_ENDPOINT,
        UPDATED_BY_ATP,
        UPDATED_BY_GRAPH,
        UPDATED_IN_INCIDENT,
        UPDATED_IN_OLD_INCIDENT,
        CREATED_IN_INCIDENT,
        SOURCE_OF_ALERT,
        SOURCE_OF_ROW,
        SOURCE_IN_INCIDENT,
    ],
    detection_sources: &[
        "/m365_defender/alert/detection_source",
        "/m365_defender/event/detection/source",
        "/m365_defender/incident/alert/detection_source",
        "/m365_defender/alerts/detectionSource",
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
/// There `/event/id` is the incident's.
const ID_IN_INCIDENT: &str = "/m365_defender/incident/alert/id";
const TABLE: &str = "/m365_defender/event/category";
const SEVERITY_OF_ALERT: &str = "/m365_defender/alert/severity";
const SEVERITY_OF_ROW: &str = "/m365_defender/event/severity";
const SEVERITY_IN_INCIDENT: &str = "/m365_defender/incident/alert/severity";
const SEVERITY_IN_OLD_INCIDENT: &str = "/m365_defender/alerts/severity";
const UPDATED_BY_ENDPOINT: &str = "/microsoft/defender_endpoint/lastUpdateTime";
const UPDATED_BY_ATP: &str = "/microsoft/defender_atp/lastUpdateTime";
const UPDATED_BY_GRAPH: &str = "/m365_defender/alert/last_update_datetime";
const UPDATED_IN_INCIDENT: &str = "/m365_defender/incident/alert/last_update_datetime";
const UPDATED_IN_OLD_INCIDENT: &str = "/m365_defender/alerts/lastUpdatedTime";
const CREATED_IN_INCIDENT: &str = "/m365_defender/incident/alert/created_datetime";
const SOURCE_OF_ALERT: &str = "/m365_defender/alert/service_source";
const SOURCE_OF_ROW: &str = "/m365_defender/event/service_source";
const SOURCE_IN_INCIDENT: &str = "/m365_defender/incident/alert/service_source";

/// What the names of datasets and modules with alerts of Defender begin with.
const DATASETS: [&str; 4] =
    ["microsoft_defender_endpoint", "m365_defender", "microsoft.defender_atp", "microsoft.m365_defender"];

fn read(event: &Fields<'_, '_>) -> Result<Option<Reading>, Rejection> {
    let dataset = event.first_text(&[DATASET, DATASET_OF_STREAM, MODULE])?;
    let is_of_defender = dataset.is_some_and(|name| DATASETS.iter().any(|dataset| name.starts_with(dataset)));
    let members = ["/m365_defender", "/microsoft/defender_endpoint", "/microsoft/defender_atp"];
    if !is_of_defender && !members.into_iter().any(|pointer| event.has(pointer)) {
        return Ok(None);
    }
    if event.text(TABLE)?.and_then(streaming::is_of_alerts) == Some(false) {
        return Ok(Some(Reading::Skip(Skip::OtherTable)));
    }
    // What only has a dataset's name is an event before the pipeline, whose alert is in `message`.
    let Some(id) = [ID_IN_INCIDENT, ID].into_iter().find(|pointer| event.has(pointer)) else { return Ok(None) };
    let product = event.first_text(&[SOURCE_OF_ALERT, SOURCE_OF_ROW, SOURCE_IN_INCIDENT, PROVIDER])?;
    if product.is_some_and(product::is_other) {
        return Ok(Some(Reading::Skip(Skip::OtherProduct)));
    }
    let id = event.alert_id(id)?;
    let updated = [UPDATED_BY_ENDPOINT, UPDATED_BY_ATP, UPDATED_BY_GRAPH, UPDATED_IN_INCIDENT, UPDATED_IN_OLD_INCIDENT];
    Ok(Some(Reading::of(
        product,
        Alert {
            tenant: event.first_tenant(&[TENANT_OF_ALERT, TENANT_OF_ROW, TENANT])?,
            severity: severity(event)?,
            updated: event.first_time(&updated)?,
            created: event.first_time(&[CREATED_IN_INCIDENT, CREATED])?.or(id.created()),
            id,
        },
    )))
}

/// By its name where that is kept, else by the number the integrations give it (21, 47, 73; informational less).
fn severity(event: &Fields<'_, '_>) -> Result<Severity, Rejection> {
    let named = [SEVERITY_OF_ALERT, SEVERITY_OF_ROW, SEVERITY_IN_INCIDENT, SEVERITY_IN_OLD_INCIDENT];
    if let Some(name) = event.first_text(&named)? {
        return Ok(Severity::parse(name));
    }
    Ok(match event.number(SEVERITY_NUMBER)? {
        Some(number) if number >= 73.0 => Severity::High,
        Some(number) if number >= 47.0 => Severity::Medium,
        Some(number) if number >= 21.0 => Severity::Low,
        Some(number) if number > 0.0 => Severity::Informational,
        _ => Severity::Unspecified,
    })
}
