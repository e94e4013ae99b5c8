"""Every record fits the JSON Schema of its form that the project publishes."""

import json

import pytest

from interop.daemon import OUTPUTS
from interop.rules import schemas
from interop.stage import Played


def test_there_is_an_output_of_every_form():
    assert {form for form, _ in OUTPUTS.values()} == set(schemas.forms())


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_record_fits_the_schema_of_its_form(played: Played, output: str):
    form, _ = OUTPUTS[output]
    for record in played.published[output]:
        schemas.check(form, json.loads(record.value))
