"""The CloudEvents SDK reads both modes from Kafka, and finds the same event in them."""

import json
from datetime import UTC

import pytest

from interop.daemon import OUTPUTS
from interop.rules import cloud_events
from interop.stage import Played

OWN = {"specversion": "1.0", "source": "/alert-ips", "type": "alert-ips.related-ips.v1"}


def by_id(played: Played, output: str) -> dict[str, object]:
    events = [cloud_events.read(record) for record in played.published[output]]
    assert len({event.get_id() for event in events}) == len(events)
    return {event.get_id(): event for event in events}


@pytest.mark.parametrize("output", OUTPUTS)
def test_every_record_is_an_event_with_the_attributes_that_were_sent(played: Played, output: str):
    for record in played.published[output]:
        event = cloud_events.read(record)
        attributes = cloud_events.attributes(event)
        time = attributes["time"]
        assert attributes == OWN | {
            "id": record.id(),
            "subject": record.key.decode(),
            "time": time,
            "datacontenttype": "application/json",
        }
        assert played.began <= time.astimezone(UTC).timestamp() + 0.001 <= played.ended


def test_structured_mode_is_told_by_its_content_type(played: Played):
    for record in played.published["cloudevents"]:
        assert record.header("content-type") == "application/cloudevents+json; charset=UTF-8"


@pytest.mark.parametrize("shape", ["", "-per-ip"])
def test_both_modes_carry_the_same_events(played: Played, shape: str):
    binary, structured = by_id(played, f"json{shape}"), by_id(played, f"cloudevents{shape}")
    assert binary.keys() == structured.keys()
    for id, event in binary.items():
        assert cloud_events.attributes(event) == cloud_events.attributes(structured[id])
        assert event.get_data() == structured[id].get_data()


def test_the_data_in_binary_mode_is_the_record(played: Played):
    for record in played.published["json"]:
        assert cloud_events.read(record).get_data() == json.loads(record.value)


def test_the_sdk_left_to_guess_finds_the_event_too(played: Played):
    """It guesses by the headers `ce_*`, and not by `content-type` as the binding says."""
    for record in played.published["cloudevents"] + played.published["json"]:
        guessed, read = cloud_events.guess(record), cloud_events.read(record)
        assert cloud_events.attributes(guessed) == cloud_events.attributes(read)
        assert guessed.get_data() == read.get_data()
