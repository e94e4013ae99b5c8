"""Every record of the form `ocsf` is a Detection Finding by the framework's own schema."""

import json

import pytest

from interop.daemon import OUTPUTS
from interop.rules import ocsf
from interop.stage import Played


@pytest.mark.parametrize("output", [name for name, (form, _) in OUTPUTS.items() if form == "ocsf"])
def test_every_record_is_a_detection_finding(played: Played, output: str):
    severities = set()
    for record in played.published[output]:
        event = json.loads(record.value)
        ocsf.check(event)
        assert event["class_uid"] == 2004
        severities.add(event["severity_id"])
    assert severities == {0, 1, 2, 3, 4}
