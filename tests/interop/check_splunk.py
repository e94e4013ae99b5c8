"""Splunk's ways in: the Collector that reads from Kafka, and what Splunk Connect for Kafka would say of the records."""

import json
from collections import Counter
from datetime import datetime

import pytest

from interop.collector import TOKENS
from interop.daemon import HOST, INDEX, SOURCE, SOURCETYPE
from interop.hec import split
from interop.rules import splunk
from interop.stage import Played

ENVELOPES = ["splunk", "splunk-per-ip", "splunk-with-alert"]


def ids(played: Played, output: str) -> Counter:
    return Counter(record.header("ce_id") for record in played.published[output])


@pytest.mark.parametrize("output", TOKENS)
def test_each_posted_body_is_a_row_of_envelopes(played: Played, output: str):
    bodies = [split(body) for body in played.posted[output]]
    assert any(len(envelopes) > 1 for envelopes in bodies), "no body has several, so it is not known if they come apart"
    for envelope in (envelope for envelopes in bodies for envelope in envelopes):
        splunk.check_envelope(envelope)
        # A time of now: not of another unit, and not of another time zone.
        assert played.began - 1 <= envelope["time"] <= played.ended + 1


@pytest.mark.parametrize("output", ENVELOPES)
def test_nothing_is_lost_or_repeated_or_changed_on_the_way_to_splunk(played: Played, output: str):
    published = {record.header("ce_id"): json.loads(record.value) for record in played.published[output]}
    posted = [envelope for body in played.posted[output] for envelope in split(body)]
    assert Counter(envelope["event"]["record"] for envelope in posted) == ids(played, output)
    for envelope in posted:
        assert envelope == published[envelope["event"]["record"]]


@pytest.mark.parametrize("output", ENVELOPES)
def test_the_time_of_an_envelope_is_that_of_its_event(played: Played, output: str):
    for record in played.published[output]:
        envelope = json.loads(record.value)
        told = datetime.fromisoformat(envelope["event"]["retrieved_at"].replace("Z", "+00:00"))
        assert round(envelope["time"] * 1000) == round(told.timestamp() * 1000)


def test_splunk_is_told_where_to_file_an_envelope(played: Played):
    for record in played.published["splunk"]:
        envelope = json.loads(record.value)
        told = {name: envelope[name] for name in ("index", "source", "sourcetype", "host")}
        assert told == {"index": INDEX, "source": SOURCE, "sourcetype": SOURCETYPE, "host": HOST}


def test_plain_json_is_filed_by_its_headers(played: Played):
    published = {record.header("ce_id"): record.value.decode() for record in played.published["splunk-headers"]}
    posted = [envelope for body in played.posted["splunk-headers"] for envelope in split(body)]
    assert Counter(envelope["fields"]["kafka.header.ce_id"] for envelope in posted) == ids(played, "splunk-headers")
    for envelope in posted:
        # The record's text goes through untouched.
        assert envelope["event"] == published[envelope["fields"]["kafka.header.ce_id"]]
        told = {name: envelope[name] for name in ("index", "source", "sourcetype", "host")}
        assert told == {"index": INDEX, "source": SOURCE, "sourcetype": SOURCETYPE, "host": HOST}


@pytest.mark.parametrize("output", ENVELOPES)
def test_splunk_connect_for_kafka_takes_each_record_as_an_envelope(played: Played, output: str):
    for record in played.published[output]:
        splunk.check_connect(record.value)
