"""Every record of the form `ecs` has the fields of the Elastic Common Schema, and no others but its own."""

import json

from interop.daemon import OUTPUTS
from interop.rules import ecs
from interop.stage import Played


def test_every_record_is_an_event_of_the_common_schema(played: Played):
    outputs = [output for output, (form, _) in OUTPUTS.items() if form == "ecs"]
    ecs.check([json.loads(record.value) for output in outputs for record in played.published[output]])
