"""What the CloudEvents SDK for Python, the project's own, reads from a record."""

import json

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import (
    KafkaMessage,
    from_binary_event,
    from_kafka_event,
    from_structured_event,
)

from ..broker import Record
from . import Refused

REQUIRED = ("specversion", "id", "source", "type")
STRUCTURED = "application/cloudevents"


def read(record: Record) -> BaseCloudEvent:
    """The event, in the mode that its `content-type` tells, as the Kafka binding (section 3) says."""
    message = _message(record)
    is_structured = (record.header("content-type") or "").startswith(STRUCTURED)
    try:
        _demand_required(record, is_structured)
        return from_structured_event(message) if is_structured else from_binary_event(message)
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"the SDK says: {error!r}") from error


def guess(record: Record) -> BaseCloudEvent:
    """The event, in the mode that the SDK takes it for."""
    return from_kafka_event(_message(record))


def attributes(event: BaseCloudEvent) -> dict[str, object]:
    """Those of the event itself; the SDK takes a record's key for one too."""
    return {name: value for name, value in event.get_attributes().items() if name != "partitionkey"}


def _message(record: Record) -> KafkaMessage:
    return KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value)


def _demand_required(record: Record, is_structured: bool) -> None:
    """The SDK makes up an id, a version and a time where there is none, so it would not miss them."""
    if is_structured:
        body = json.loads(record.value)
        missing = [name for name in REQUIRED if not body.get(name)]
    else:
        missing = [name for name in REQUIRED if not record.header(f"ce_{name}")]
    if missing:
        raise Refused(f"the required attributes {missing} are missing")
