"""Kafka, through Confluent's client: messages are sent, and what was published is read from the start."""

import json
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

READ_SECONDS = 20


@dataclass(frozen=True)
class Record:
    """One record as it stands in a topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    def header(self, name: str) -> str | None:
        values = [value.decode() for header, value in self.headers if header == name]
        assert len(values) <= 1, f"{self.place()} has the header {name} {len(values)} times"
        return values[0] if values else None

    def id(self) -> str:
        """What copies of a record have in common: of a CloudEvent in structured mode it stands in the value."""
        return self.header("ce_id") or json.loads(self.value)["id"]

    def place(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True)
class Message:
    """One message to send."""

    key: str
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()


class Broker:
    def __init__(self, bootstrap: str):
        self.bootstrap = bootstrap
        # It is of no group, and says itself where it reads.
        self._reader = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "interop-reads-without-a-group",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
            }
        )

    def __enter__(self) -> "Broker":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def send(self, topic: str, messages: list[Message]) -> None:
        failures: list[str] = []
        producer = Producer({"bootstrap.servers": self.bootstrap, "message.timeout.ms": 15_000})
        for message in messages:
            producer.produce(
                topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
                on_delivery=lambda error, _: failures.append(str(error)) if error else None,
            )
        left = producer.flush(20)
        assert not failures and not left, f"{left} messages are not sent, and {failures}"

    def count(self, topic: str) -> int:
        """How many records were ever written."""
        return sum(high for _, high in self._ends(topic).values())

    def read(self, topics: list[str]) -> dict[str, list[Record]]:
        """All records that are there now. Of all topics at once, as the client takes half a second to begin."""
        left = {
            (topic, partition): high
            for topic in topics
            for partition, (low, high) in self._ends(topic).items()
            if high > low
        }
        self._reader.assign([TopicPartition(*place, 0) for place in left])
        records: dict[str, list[Record]] = {topic: [] for topic in topics}
        while left:
            message = self._reader.poll(READ_SECONDS)
            assert message is not None, f"nothing more within {READ_SECONDS} s, {left} not reached"
            if message.error():
                raise KafkaException(message.error())
            records[message.topic()].append(_record(message))
            place = (message.topic(), message.partition())
            if message.offset() + 1 >= left[place]:
                del left[place]
        self._reader.unassign()
        return records

    def _ends(self, topic: str) -> dict[int, tuple[int, int]]:
        partitions = self._reader.list_topics(topic, timeout=10).topics[topic].partitions
        assert partitions, f"the topic {topic} does not exist"
        return {
            number: self._reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10)
            for number in partitions
        }


def _record(message: object) -> Record:
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        key=message.key(),
        value=message.value(),
        headers=tuple(message.headers() or ()),
    )
