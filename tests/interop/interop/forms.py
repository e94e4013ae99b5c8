"""Where each form says what: so that one check can ask all of them the same."""

import json
from collections.abc import Callable
from dataclasses import dataclass

Document = dict


@dataclass(frozen=True)
class Said:
    """What a record says of its alert."""

    alert_id: str
    status: str
    tenant: str
    addresses: list[str]
    # Where it repeats the record's id in its payload.
    id: str | None


def read(form: str, payload: bytes) -> Said:
    return _READERS[form](json.loads(payload))


def embedded(form: str, payload: bytes) -> object:
    """The alert as it was read, in an output with `include_alert`."""
    document = json.loads(payload)
    match form:
        case "json":
            return document["alert"]
        case "splunk-hec":
            return document["event"]["alert"]
        case "sentinel":
            return document["Alert"]
        case "ocsf":
            return json.loads(document["raw_data"])
        case "ecs":
            return json.loads(document["event"]["original"])
        case _:
            raise AssertionError(f"no output of form {form} embeds the alert here")


def _addresses(document: Document) -> list[str]:
    if "ips" in document:
        return document["ips"]
    return [document["ip"]] if document["ip"] else []


def _json(document: Document) -> Said:
    return Said(document["alert_id"], document["status"], document["tenant_id"], _addresses(document), None)


def _splunk(envelope: Document) -> Said:
    event = envelope["event"]
    said = _json(event)
    assert envelope["fields"] == {"alert_id": said.alert_id, "status": said.status, "tenant_id": said.tenant}
    return Said(said.alert_id, said.status, said.tenant, said.addresses, event["record"])


def _sentinel(row: Document) -> Said:
    addresses = row.get("IpAddresses", [row["IpAddress"]] if "IpAddress" in row else [])
    if "Entities" in row:
        assert [entity["Address"] for entity in row["Entities"]] == addresses
    return Said(row["AlertId"], row["Status"], row["AlertTenantId"], addresses, row["SourceRecord"])


def _ocsf(event: Document) -> Said:
    addresses = [evidence["data"]["ip"] for evidence in event.get("evidences", [])]
    metadata = event["metadata"]
    return Said(
        event["finding_info"]["uid"], event["unmapped"]["status"], metadata["tenant_uid"], addresses, metadata["uid"]
    )


def _ecs(event: Document) -> Said:
    own = event["alert_ips"]
    assert [address["ip"] for address in own["addresses"]] == event["related"]["ip"]
    return Said(
        event["event"]["id"], own["status"], event["cloud"]["account"]["id"], event["related"]["ip"], own["record"]
    )


def _cloud_events(event: Document) -> Said:
    said = _json(event["data"])
    assert event["subject"] == said.alert_id
    return Said(said.alert_id, said.status, said.tenant, said.addresses, event["id"])


_READERS: dict[str, Callable[[Document], Said]] = {
    "json": _json,
    "splunk-hec": _splunk,
    "sentinel": _sentinel,
    "ocsf": _ocsf,
    "ecs": _ecs,
    "cloudevents": _cloud_events,
}
