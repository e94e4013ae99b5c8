"""What is published is what the service says: asked by hand, and by the alert's place in Kafka."""

import json
from collections import Counter
from ipaddress import ip_address

import pytest

from interop import forms
from interop.alerts import TRACEPARENT
from interop.daemon import OUTPUTS
from interop.stage import Played

STATUSES = {"found", "empty", "not_found", "expired"}


def is_per_ip(output: str) -> bool:
    return OUTPUTS[output][1].get("shape") == "per-ip"


def test_alerts_of_every_status_were_sent(played: Played):
    assert {alert.sent.status for alert in played.alerts} == STATUSES
    versions = [{address.version for address in alert.sent.addresses} for alert in played.alerts]
    assert {4, 6} in versions


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_alert_is_published_once_with_its_addresses(played: Played, output: str):
    form, _ = OUTPUTS[output]
    wanted: dict[str, tuple] = {}
    for alert in played.alerts:
        sent = alert.sent
        texts = [str(address) for address in sent.addresses]
        parts = [[text] for text in texts] or [[]]
        for number, part in enumerate(parts if is_per_ip(output) else [texts]):
            id = f"{alert.place}/{number}" if is_per_ip(output) else alert.place
            wanted[id] = (sent.id, sent.status, sent.tenant, part)
    records = played.published[output]
    found = {}
    for record in records:
        said = forms.read(form, record.value)
        id = record.id()
        assert said.id in (id, None)
        assert record.key == said.alert_id.encode()
        found[id] = (said.alert_id, said.status, said.tenant, said.addresses)
    assert found == wanted
    assert Counter(record.id() for record in records).most_common(1)[0][1] == 1


def test_how_far_an_address_reaches_is_as_python_knows_it(played: Played):
    seen = set()
    for record in played.published["json-per-ip"]:
        document = json.loads(record.value)
        if document["ip"] is None:
            assert document["ip_scope"] is None and document["ip_version"] is None
            continue
        address = ip_address(document["ip"])
        seen.add(document["ip_scope"])
        assert document["ip_version"] == address.version
        assert (document["ip_scope"] == "public") == address.is_global, document
        assert (document["ip_scope"] == "link_local") == address.is_link_local, document
    assert "public" in seen


@pytest.mark.parametrize("output", [name for name, (_, changed) in OUTPUTS.items() if "include_alert" in changed])
def test_the_embedded_alert_is_the_one_that_was_sent(played: Played, output: str):
    form, _ = OUTPUTS[output]
    sent = {alert.place: alert.sent.alert for alert in played.alerts}
    for record in played.published[output]:
        assert forms.embedded(form, record.value) == sent[record.id()]


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_trace_of_the_message_goes_on(played: Played, output: str):
    traces = [record.header("traceparent") for record in played.published[output]]
    assert set(traces) == {TRACEPARENT, None}
