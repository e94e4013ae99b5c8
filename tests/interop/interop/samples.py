"""A right record of each form, written by hand, for the checks that plant mistakes in one."""

import copy
import json

from .broker import Record

ID = "alerts/0/42/0"
ALERT = "da638034938542563831_172489803"
TENANT = "12f988bf-1234-5678-91ab-2d7cd011db47"
TIME = "2026-11-23T18:40:00.123Z"
MILLIS = 1_795_459_200_123

_JSON = {
    "alert_id": ALERT,
    "ips": ["104.80.104.128", "2a01::7"],
    "status": "found",
    "tenant_id": TENANT,
    "retrieved_at": TIME,
}

_DOCUMENTS = {
    "json": _JSON,
    "splunk-hec": {
        "time": MILLIS / 1000,
        "host": "enricher-01",
        "source": "alert-ips",
        "sourcetype": "ms:defender:alert:ips",
        "index": "security",
        "event": _JSON | {"ip_scopes": ["public", "public"], "ip_count": 2, "record": ID},
        "fields": {"alert_id": ALERT, "status": "found", "tenant_id": TENANT},
    },
    "sentinel": {
        "TimeGenerated": TIME,
        "RetrievedAt": TIME,
        "AlertId": ALERT,
        "AlertTenantId": TENANT,
        "AlertSeverity": "High",
        "Status": "found",
        "IpAddresses": ["104.80.104.128"],
        "IpScopes": ["public"],
        "Entities": [{"$id": "1", "Address": "104.80.104.128", "Type": "ip"}],
        "IpCount": 1,
        "Part": 1,
        "Parts": 1,
        "SourceRecord": ID,
    },
    "ocsf": {
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": 2004,
        "class_name": "Detection Finding",
        "activity_id": 2,
        "activity_name": "Update",
        "type_uid": 200402,
        "type_name": "Detection Finding: Update",
        "severity_id": 4,
        "severity": "High",
        "time": MILLIS,
        "message": "1 IP address is related to the alert",
        "metadata": {
            "version": "1.8.0",
            "product": {"name": "Microsoft Defender for Endpoint", "vendor_name": "Microsoft"},
            "uid": ID,
            "tenant_uid": TENANT,
            "processed_time": MILLIS,
        },
        "finding_info": {"uid": ALERT, "title": "Microsoft Defender for Endpoint alert"},
        "evidences": [
            {"name": "ip", "uid": "2a01::7", "data": {"ip": "2a01::7", "version": 6, "scope": "public"}},
        ],
        "observables": [{"name": "evidences[0].data.ip", "type": "IP Address", "type_id": 2, "value": "2a01::7"}],
        "unmapped": {"status": "found", "alert_id": ALERT},
    },
    "ecs": {
        "@timestamp": TIME,
        "ecs": {"version": "8.17.0"},
        "event": {
            "kind": "enrichment",
            "module": "microsoft_defender_endpoint",
            "dataset": "microsoft_defender_endpoint.alert_ips",
            "provider": "alert-ips",
            "id": ALERT,
        },
        "cloud": {"provider": "azure", "account": {"id": TENANT}},
        "related": {"ip": ["2a01::7"]},
        "alert_ips": {
            "status": "found",
            "count": 1,
            "addresses": [{"ip": "2a01::7", "version": 6, "scope": "public"}],
            "record": ID,
        },
    },
    "cloudevents": {
        "specversion": "1.0",
        "id": ID,
        "source": "/alert-ips",
        "type": "alert-ips.related-ips.v1",
        "subject": ALERT,
        "time": TIME,
        "datacontenttype": "application/json",
        "data": _JSON,
    },
}

_HEADERS = {
    "ce_specversion": "1.0",
    "ce_id": ID,
    "ce_source": "/alert-ips",
    "ce_type": "alert-ips.related-ips.v1",
    "ce_time": TIME,
    "ce_subject": ALERT,
    "content-type": "application/json",
}

FORMS = sorted(_DOCUMENTS)


def document(form: str) -> dict:
    return copy.deepcopy(_DOCUMENTS[form])


def record(value: dict, headers: dict[str, str]) -> Record:
    pairs = tuple((name, text.encode()) for name, text in headers.items())
    return Record("out", 0, 7, ALERT.encode(), json.dumps(value).encode(), pairs)


def headers(form: str) -> dict[str, str]:
    structured = {"content-type": "application/cloudevents+json; charset=UTF-8"}
    return _HEADERS | (structured if form == "cloudevents" else {})
