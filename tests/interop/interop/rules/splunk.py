"""What Splunk takes, by each of its ways in."""

import json
from numbers import Real

from . import Refused

# "Format events for HTTP Event Collector", the keys of an event's metadata, and what the values are.
KEYS = {"time", "host", "source", "sourcetype", "index", "fields", "event"}

# Seconds: what is larger than this is in milliseconds, and Splunk would file it in the distant future.
LATEST_SECONDS = 10_000_000_000


def check_envelope(envelope: object) -> None:
    """As the HTTP Event Collector documents what is posted to `/services/collector`."""
    if not isinstance(envelope, dict):
        raise Refused(f"an envelope is an object, not {envelope!r}")
    if unknown := envelope.keys() - KEYS:
        raise Refused(f"the event collector knows no {sorted(unknown)}")
    if envelope.get("event") in (None, ""):
        raise Refused("Event field is required, and cannot be blank")
    time = envelope.get("time")
    if not isinstance(time, Real) or isinstance(time, bool):
        raise Refused(f"time is a number, not {time!r}")
    if not 0 < time < LATEST_SECONDS:
        raise Refused(f"time is in seconds since 1970, and {time} is not")
    for name in ("host", "source", "sourcetype", "index"):
        if name in envelope and not (isinstance(envelope[name], str) and envelope[name]):
            raise Refused(f"{name} is a text, not {envelope[name]!r}")
    fields = envelope.get("fields", {})
    if not isinstance(fields, dict):
        raise Refused(f"fields is an object, not {fields!r}")
    for name, value in fields.items():
        if not _is_scalar(value):
            raise Refused(f"fields.{name} is one value, not {value!r}")


def check_connect(record: bytes) -> None:
    """As Splunk Connect for Kafka reads a record with `splunk.hec.json.event.formatted=true`.

    A model of its class `JsonEvent`, which is not in a registry: Jackson as it is by default reads a Double `time`,
    four texts, any `event` and a Map of texts, refuses members beside these, and turns scalars, but nothing else, into
    texts.
    What it refuses is wrapped into an envelope again, so that Splunk finds nothing where it looks.
    """
    try:
        event = json.loads(record)
    except ValueError as error:
        raise Refused(f"event does not follow correct HEC pre-formatted format: {error}") from None
    if not isinstance(event, dict):
        raise Refused("Cannot deserialize value of type JsonEvent")
    if unknown := event.keys() - KEYS:
        raise Refused(f"Unrecognized field {sorted(unknown)}")
    if not _is_double(event.get("time")):
        raise Refused(f"Cannot deserialize value of type `java.lang.Double` from {event['time']!r}")
    for name in ("host", "source", "sourcetype", "index"):
        if not _is_scalar(event.get(name)):
            raise Refused(f"Cannot deserialize value of type `java.lang.String`: {name}")
    fields = event.get("fields", {})
    if not (fields is None or isinstance(fields, dict)):
        raise Refused("Cannot deserialize value of type `java.util.LinkedHashMap`: fields")
    for name, value in (fields or {}).items():
        if not _is_scalar(value):
            raise Refused(f"Cannot deserialize value of type `java.lang.String`: fields.{name}")
    if event.get("event") in (None, ""):
        raise Refused("Null/empty event")


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | Real)


def _is_double(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return False
        return True
    return value is None or isinstance(value, Real)
