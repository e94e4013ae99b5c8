"""Every row for Sentinel keeps to what Azure Monitor documents of custom tables."""

import pytest

from interop.daemon import OUTPUTS
from interop.rules import sentinel
from interop.stage import Played


@pytest.mark.parametrize("output", [name for name, (form, _) in OUTPUTS.items() if form == "sentinel"])
def test_every_record_can_be_a_row_of_a_custom_table(played: Played, output: str):
    for record in played.published[output]:
        sentinel.check(record.value)
