//! The payloads of the simulated world: one function for each shape an alert comes in.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::domain::alert::Severity;

/// One alert, as all its shapes tell it.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) id: String,
    pub(super) severity: Severity,
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    pub(super) tenant: String,
    /// Picks title, category and machine.
    pub(super) variant: usize,
}

const TITLES: [(&str, &str); 6] = [
    ("Suspicious PowerShell command line", "Execution"),
    ("Possible credential dumping", "CredentialAccess"),
    ("Connection to a custom network indicator", "CommandAndControl"),
    ("'Wacatac' malware was prevented", "Malware"),
    ("Anomalous remote logon", "LateralMovement"),
    ("Unusual number of failed sign-ins", "InitialAccess"),
];

impl Facts {
    fn title(&self) -> (&'static str, &'static str) {
        TITLES[self.variant % TITLES.len()]
    }

    /// As the Defender API spells it.
    fn severity(&self) -> &'static str {
        match self.severity {
            Severity::High => "High",
            Severity::Medium => "Medium",
            Severity::Unspecified => "UnSpecified",
            Severity::Low => "Low",
            Severity::Informational => "Informational",
        }
    }

    fn machine(&self) -> String {
        format!("{:040x}", 0x1e5b_c9d7_u64 + self.variant as u64)
    }
}

/// Seven fractional digits, as the service writes times.
pub(super) fn ticks_time(time: Timestamp) -> String {
    format!("{}.{:07}Z", time.strftime("%Y-%m-%dT%H:%M:%S"), time.subsec_nanosecond() / 100)
}

/// An item of `GET /api/alerts` as in 2019: no tenant.
pub(super) fn resource_2019(facts: &Facts) -> Value {
    let (title, category) = facts.title();
    json!({
        "id": facts.id,
        "incidentId": 1000 + facts.variant,
        "investigationId": Value::Null,
        "assignedTo": Value::Null,
        "severity": facts.severity(),
        "status": "New",
        "classification": Value::Null,
        "determination": Value::Null,
        "investigationState": "Queued",
        "detectionSource": "WindowsDefenderAtp",
        "category": category,
        "threatFamilyName": Value::Null,
        "title": title,
        "description": "Simulated alert",
        "alertCreationTime": ticks_time(facts.created),
        "firstEventTime": ticks_time(facts.created),
        "lastEventTime": ticks_time(facts.created),
        "lastUpdateTime": ticks_time(facts.updated),
        "resolvedTime": Value::Null,
        "machineId": facts.machine(),
    })
}

/// An item of `GET /api/alerts?$expand=evidence` as it is now.
pub(super) fn resource(facts: &Facts) -> Value {
    let mut alert = resource_2019(facts);
    alert["aadTenantId"] = json!(facts.tenant);
    alert["detectorId"] = json!("17e10bbc-3a68-474a-8aad-faef14d43952");
    alert["mitreTechniques"] = json!(["T1059.001", "T1071"]);
    alert["computerDnsName"] = json!(format!("host-{}.contoso.example", facts.variant % 500));
    alert["rbacGroupName"] = json!("Servers");
    alert["relatedUser"] = json!({"userName": "svc-build", "domainName": "CONTOSO"});
    alert["loggedOnUsers"] = json!([{"accountName": "svc-build", "domainName": "CONTOSO"}]);
    alert["comments"] = json!([]);
    alert["evidence"] = json!([
        {"entityType": "Process", "evidenceCreationTime": ticks_time(facts.created), "fileName": "powershell.exe",
         "processId": 4780, "processCommandLine": "powershell.exe -NoProfile -EncodedCommand …", "ipAddress": Value::Null},
        {"entityType": "Ip", "evidenceCreationTime": ticks_time(facts.created), "ipAddress": "203.0.113.7"},
    ]);
    alert
}

/// What a poller of `GET /api/alerts` passes on whole.
pub(super) fn page(alerts: &[Facts]) -> Value {
    json!({
        "@odata.context": "https://api.security.microsoft.com/api/$metadata#Alerts",
        "value": alerts.iter().map(resource).collect::<Vec<_>>(),
    })
}

/// An `AlertInfo` row of the streaming API.
pub(super) fn info_row(facts: &Facts) -> Value {
    let (title, category) = facts.title();
    json!({
        "time": ticks_time(facts.created),
        "tenantId": facts.tenant,
        "operationName": "Publish",
        "category": "AdvancedHunting-AlertInfo",
        "properties": {
            "AlertId": facts.id,
            "Timestamp": ticks_time(facts.created),
            "Title": title,
            "Category": category,
            "Severity": facts.severity(),
            "ServiceSource": "Microsoft Defender for Endpoint",
            "DetectionSource": "EDR",
            "AttackTechniques": "[\"PowerShell (T1059.001)\"]",
        },
        "Tenant": "DefaultTenant",
    })
}

/// An `AlertEvidence` row of the streaming API, in the older schema without a severity.
pub(super) fn evidence_row(facts: &Facts, entity: &str) -> Value {
    let (title, category) = facts.title();
    json!({
        "time": ticks_time(facts.created),
        "tenantId": facts.tenant,
        "operationName": "Publish",
        "category": "AdvancedHunting-AlertEvidence",
        "properties": {
            "Timestamp": ticks_time(facts.created),
            "AlertId": facts.id,
            "Title": title,
            "Categories": format!("[\"{category}\"]"),
            "ServiceSource": "Microsoft Defender for Endpoint",
            "DetectionSource": "EDR",
            "EntityType": entity,
            "EvidenceRole": "Related",
            "RemoteIP": if entity == "Ip" { "203.0.113.7" } else { "" },
            "DeviceId": facts.machine(),
            "AdditionalFields": "{\"$id\":\"1\"}",
        },
        "Tenant": "DefaultTenant",
    })
}

/// A row of the streaming API that is about no alert.
pub(super) fn other_table_row(facts: &Facts) -> Value {
    json!({
        "time": ticks_time(facts.created),
        "tenantId": facts.tenant,
        "category": "AdvancedHunting-DeviceInfo",
        "properties": {"DeviceId": facts.machine(), "Timestamp": ticks_time(facts.created)},
    })
}
