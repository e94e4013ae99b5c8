"""All of it at work once: alerts in, the daemon, its topics, and the Collector behind them."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from . import collector
from .alerts import Sent, choose
from .broker import Broker, Record
from .child import wait_for, wait_for_all
from .daemon import OUTPUTS, Setup
from .hec import Hec, split
from .service import Service

PUBLISH_SECONDS = 60
COLLECT_SECONDS = 60

# A repeat would come with what it repeats, or when the Collector reads again after a rebalance.
QUIET_SECONDS = 3


@dataclass(frozen=True)
class Alert:
    """An alert that was sent, and where in Kafka it stood: what its records' ids are made of."""

    sent: Sent
    place: str


@dataclass(frozen=True)
class Played:
    alerts: list[Alert]
    published: dict[str, list[Record]]
    # What was posted to Splunk, by output.
    posted: dict[str, list[str]]
    began: float
    ended: float


def play(program: str, collector_program: str, bootstrap: str, folder: Path) -> Played:
    began = time.time()
    with Broker(bootstrap) as broker, Service(program, folder) as service, Hec() as hec:
        name = f"interop.{int(began)}-{os.getpid()}"
        setup = Setup(program, folder, bootstrap, service.origin, name)
        setup.create_topics()
        messages, sent = choose(service)
        wanted = {output: sum(_records_of(output, alert) for alert in sent) for output in OUTPUTS}

        def unpublished() -> dict[str, int]:
            return {output: count - broker.count(setup.topic(output)) for output, count in wanted.items()}

        def unposted() -> dict[str, int]:
            return {output: wanted[output] - _events(hec, token) for output, token in collector.TOKENS.items()}

        with setup.start() as daemon, collector.start(collector_program, setup, hec) as collecting:
            broker.send(setup.topic("alerts"), messages)
            wait_for_all("every record is published", PUBLISH_SECONDS, unpublished, daemon)
            daemon.stop()
            wait_for_all("every record is posted", COLLECT_SECONDS, unposted, collecting)
            _wait_for_quiet(hec)
            collecting.stop()
        service.stop()
        assert broker.count(setup.topic("dead-letters")) == 0, "an alert became a dead letter"
        read = broker.read([setup.topic(name) for name in ["alerts", *OUTPUTS]])
        return Played(
            alerts=_places(read[setup.topic("alerts")], sent),
            published={output: read[setup.topic(output)] for output in OUTPUTS},
            posted={output: hec.bodies(token) for output, token in collector.TOKENS.items()},
            began=began,
            ended=time.time(),
        )


def _records_of(output: str, alert: Sent) -> int:
    _, changed = OUTPUTS[output]
    return max(1, len(alert.addresses)) if changed.get("shape") == "per-ip" else 1


def _events(hec: Hec, token: str) -> int:
    return sum(len(split(body)) for body in hec.bodies(token))


def _wait_for_quiet(hec: Hec) -> None:
    def posted() -> int:
        return sum(len(hec.bodies(token)) for token in collector.TOKENS.values())

    seen, since = posted(), time.monotonic()

    def is_quiet() -> bool | None:
        nonlocal seen, since
        if (now := posted()) != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= QUIET_SECONDS or None

    wait_for("nothing more is posted", COLLECT_SECONDS, is_quiet)


def _places(messages: list[Record], sent: list[Sent]) -> list[Alert]:
    """Finds each alert in the messages, by what was sent, not by what was published."""
    of_id = {alert.id: alert for alert in sent}
    assert len(of_id) == len(sent), "two alerts have one id"
    alerts = []
    for message in messages:
        value = json.loads(message.value)
        listed = value["value"] if isinstance(value, dict) and "value" in value else [value]
        for index, alert in enumerate(listed):
            alerts.append(Alert(of_id[_id_of(alert)], f"{message.place()}/{index}"))
    assert len(alerts) == len(sent), "not all that was sent stands in Kafka"
    return alerts


def _id_of(alert: object) -> str:
    if isinstance(alert, str):
        return alert
    return alert["id"] if "id" in alert else alert["properties"]["AlertId"]
