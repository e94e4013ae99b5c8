"""The rules can say no: a right record of each form passes, and each with a mistake planted in it is refused."""

import json

import pytest

from interop import samples
from interop.rules import Refused, cloud_events, ecs, ocsf, schemas, sentinel, splunk

DROP = object()


def planted(form: str, path: str, value: object) -> dict:
    """The right record with another value at this place, or none there."""
    document = samples.document(form)
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    inner = document
    for step in way:
        inner = inner[step]
    if value is DROP:
        del inner[last]
    else:
        inner[last] = value
    return document


def mistakes(*cases: tuple[str, str, object]):
    """Each as `name`, place and value."""
    planted_ones = [pytest.param(path, value, id=name) for name, path, value in cases]
    return pytest.mark.parametrize(("path", "value"), planted_ones)


@pytest.mark.parametrize("form", samples.FORMS)
def test_a_right_record_passes(form: str):
    document = samples.document(form)
    schemas.check(form, document)
    cloud_events.read(samples.record(document, samples.headers(form)))
    match form:
        case "splunk-hec":
            splunk.check_envelope(document)
            splunk.check_connect(json.dumps(document).encode())
        case "ocsf":
            ocsf.check(document)
        case "ecs":
            ecs.check([document])
        case "sentinel":
            sentinel.check(json.dumps(document).encode())


@mistakes(
    ("an array in fields", "fields/ips", ["10.0.0.1"]),
    ("an object in fields", "fields/ips", {"first": "10.0.0.1"}),
    ("a time in words", "time", samples.TIME),
    ("a key that HEC doesn't know", "alert_id", samples.ALERT),
)
def test_what_no_way_into_splunk_takes_is_refused(path: str, value: object):
    envelope = planted("splunk-hec", path, value)
    with pytest.raises(Refused):
        splunk.check_envelope(envelope)
    with pytest.raises(Refused):
        splunk.check_connect(json.dumps(envelope).encode())
    if path != "fields/ips":
        with pytest.raises(Refused):
            schemas.check("splunk-hec", envelope)


@mistakes(
    ("a time in milliseconds", "time", samples.MILLIS),
    ("a time in digits as text", "time", "1795459200.123"),
    ("no time", "time", DROP),
    ("no event", "event", DROP),
    ("an index that is none", "index", ""),
)
def test_what_the_event_collector_would_file_wrongly_is_refused(path: str, value: object):
    with pytest.raises(Refused):
        splunk.check_envelope(planted("splunk-hec", path, value))


def test_what_is_no_json_is_refused_by_splunk_connect():
    with pytest.raises(Refused):
        splunk.check_connect(b"{event=no, JSON=but the text of a Map}")


@mistakes(
    ("no finding_info", "finding_info", DROP),
    ("no finding_info.uid", "finding_info/uid", DROP),
    ("no severity_id", "severity_id", DROP),
    ("no product", "metadata/product", DROP),
    ("evidence of nothing", "evidences/0/data", DROP),
    ("an attribute that the class has not", "alert_id", samples.ALERT),
    ("an attribute that an object has not", "evidences/0/ip", "2a01::7"),
    ("a severity that is not one", "severity_id", 9),
    ("a time in words", "time", samples.TIME),
    ("a class that is not one", "class_uid", 2999),
    ("a type of another class", "type_uid", 200201),
    ("a type of another activity", "type_uid", 200401),
    ("an observable that points at nothing", "observables/0/name", "evidences[1].data.ip"),
    ("an observable with another value", "observables/0/value", "2a01::8"),
    ("another version of the schema", "metadata/version", "1.7.0"),
)
def test_what_is_no_detection_finding_is_refused(path: str, value: object):
    with pytest.raises(Refused):
        ocsf.check(planted("ocsf", path, value))


def test_what_is_not_in_the_common_schema_is_refused():
    right = samples.document("ecs")
    wrong = {
        "a field that the schema doesn't name": planted("ecs", "event/alert_id", samples.ALERT),
        "a field set that the schema doesn't name": planted("ecs", "defender", {}),
        "an address that is a number": planted("ecs", "related/ip", [1]),
        "no time": planted("ecs", "@timestamp", DROP),
        "an object where a text is": planted("ecs", "cloud/provider", {"name": "azure"}),
        "a version of another kind": planted("ecs", "ecs/version", "1.12.0"),
    }
    refused = ecs.refused([*wrong.values(), right])
    assert [name for number, name in enumerate(wrong) if number not in refused] == []
    assert len(wrong) not in refused, "the right one"


@mistakes(
    ("no id", "id", DROP),
    ("an empty id", "id", ""),
    ("no source", "source", DROP),
    ("no type", "type", DROP),
    ("a version that is none", "specversion", "7.0"),
    ("a time that is none", "time", "yesterday"),
    ("an attribute with a name that is none", "Alert-Id", samples.ALERT),
)
def test_what_is_no_cloud_event_is_refused_in_both_modes(path: str, value: object):
    with pytest.raises(Refused):
        event = planted("cloudevents", path, value)
        cloud_events.read(samples.record(event, samples.headers("cloudevents")))
    headers = samples.headers("json")
    headers.pop(f"ce_{path}", None)
    if value is not DROP:
        headers[f"ce_{path}"] = value
    with pytest.raises(Refused):
        cloud_events.read(samples.record(samples.document("json"), headers))


@pytest.mark.parametrize("form", samples.FORMS)
def test_a_record_without_a_member_that_its_schema_demands_is_refused(form: str):
    for name in json.loads((schemas.SCHEMAS / f"{form}.json").read_text())["required"]:
        with pytest.raises(Refused):
            schemas.check(form, planted(form, name, DROP))


def test_an_address_that_is_none_is_refused():
    with pytest.raises(Refused):
        schemas.check("json", planted("json", "ips/0", "104.80.104.128\t"))


@mistakes(
    ("a reserved column", "TenantId", samples.TENANT),
    ("a name that no column can have", "ip-count", 1),
    ("a time that is none", "TimeGenerated", "now"),
    ("no time", "TimeGenerated", DROP),
    ("more than a message may have", "Alert", "x" * 65_536),
)
def test_what_can_be_no_row_of_a_custom_table_is_refused(path: str, value: object):
    with pytest.raises(Refused):
        sentinel.check(json.dumps(planted("sentinel", path, value)).encode())
