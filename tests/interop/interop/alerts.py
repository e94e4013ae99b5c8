"""The alerts that are sent, and what must become of each."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from .broker import Message
from .service import TENANT, Address, Service

OTHER_TENANT = "aaaaaaaa-0000-0000-0000-00000000000b"

# What a payload or a header could break on.
TITLE = 'A "signed" program, \\ é, \t 💥 \u2028 {"event": {"fields": [1]}}'

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# So many ids are looked at until there is one of each kind: of a kind that comes once in fifty, one in a million runs
# would find none.
MOST_CANDIDATES = 700


@dataclass(frozen=True)
class Sent:
    """An alert, and what must be published of it."""

    id: str
    status: str
    addresses: list[Address] = field(default_factory=list)
    tenant: str = TENANT
    severity: str = "Unspecified"
    # As it stands in its message, where that is JSON.
    alert: object = None


def choose(service: Service) -> tuple[list[Message], list[Sent]]:
    """The messages to send, and the alerts in them: of every status, of both versions of IP, in four shapes."""
    now = datetime.now(UTC)
    long_ago = now - timedelta(days=90)
    candidates = _Candidates(service, now)
    rich = [candidates.next("found", _has_both_versions) for _ in range(2)]
    single = candidates.next("found", lambda addresses: len(addresses) == 1)
    listed = [candidates.next("found"), candidates.next("empty")]
    empty, unknown, unknown_bare = (candidates.next(status) for status in ("empty", "not_found", "not_found"))

    sent: list[Sent] = []
    messages: list[Message] = []

    def send(*alerts: Sent, value: object = None, headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        sent.extend(alerts)
        value = alerts[0].alert if value is None else value
        messages.append(Message(f"key-{len(messages)}", json.dumps(value).encode(), headers))

    send(_resource(rich[0], now, "High"), headers=(("traceparent", TRACEPARENT.encode()),))
    send(_resource(rich[1], now, "Low", OTHER_TENANT))
    send(_streamed(single, now))
    send(_resource(empty, now, "Informational"))
    send(_resource(unknown, now, "Medium"))
    bare = Sent(unknown_bare.id, unknown_bare.status, alert=unknown_bare.id)
    send(bare)
    # Two in one message: they differ in the place that stands last in their records' ids.
    pair = [_resource(candidate, now, "Medium") for candidate in listed]
    send(*pair, value={"value": [alert.alert for alert in pair]})
    send(_resource(Sent(candidates.id_at(long_ago), "expired"), long_ago, "High"))
    old = candidates.id_at(long_ago)
    send(Sent(old, "expired", alert=old))
    return messages, sent


class _Candidates:
    """Ids of which the service knows what it will answer."""

    def __init__(self, service: Service, now: datetime):
        self._service, self._now, self._numbers = service, now, count(1)
        self._spare: list[Sent] = []

    def id_at(self, time: datetime) -> str:
        """An id as the product makes them: with the time of its creation in it, in .NET's ticks."""
        ticks = int(time.timestamp()) * 10_000_000 + 621_355_968_000_000_000
        return f"da{ticks}_{next(self._numbers)}"

    def next(self, status: str, fits=lambda addresses: True) -> Sent:
        for candidate in self._spare:
            if candidate.status == status and fits(candidate.addresses):
                self._spare.remove(candidate)
                return candidate
        for _ in range(MOST_CANDIDATES):
            id = self.id_at(self._now)
            addresses = self._service.addresses(id)
            becomes = "not_found" if addresses is None else "found" if addresses else "empty"
            candidate = Sent(id, becomes, addresses or [])
            if becomes == status and fits(candidate.addresses):
                return candidate
            self._spare.append(candidate)
        raise AssertionError(f"none of {MOST_CANDIDATES} alerts is {status} and fits")


def _has_both_versions(addresses: list[Address]) -> bool:
    return len(addresses) >= 3 and {address.version for address in addresses} == {4, 6}


def _resource(of: Sent, time: datetime, severity: str, tenant: str = TENANT) -> Sent:
    """In the shape of `GET /api/alerts`."""
    alert = {
        "id": of.id,
        "incidentId": 1126093,
        "severity": severity,
        "status": "New",
        "detectionSource": "WindowsDefenderAtp",
        "title": TITLE,
        "alertCreationTime": _text(time),
        "lastUpdateTime": _text(time),
        "machineId": "111e6dd8c833c8a052ea231ec1b19adaf497b625",
        "aadTenantId": tenant,
        "evidence": [{"entityType": "Ip", "ipAddress": "192.0.2.7", "score": 0.1}],
    }
    return Sent(of.id, of.status, of.addresses, tenant, severity, alert)


def _streamed(of: Sent, time: datetime) -> Sent:
    """In the shape of the streaming API."""
    properties = {"AlertId": of.id, "Title": TITLE, "Severity": "Medium", "Timestamp": _text(time)}
    alert = {
        "time": _text(time),
        "tenantId": TENANT,
        "operationName": "Publish",
        "category": "AdvancedHunting-AlertInfo",
        "properties": properties | {"ServiceSource": "Microsoft Defender for Endpoint", "DetectionSource": "EDR"},
    }
    return Sent(of.id, of.status, of.addresses, TENANT, "Medium", alert)


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.0230000Z")
