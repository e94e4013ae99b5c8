"""Splunk's way in: the OpenTelemetry Collector, from Kafka to an HTTP Event Collector."""

from pathlib import Path

from .child import Child
from .daemon import Setup
from .hec import Hec

CONFIG = Path(__file__).resolve().parent.parent / "collector" / "config.yaml"

# Each output that it reads, with the token under which it posts.
TOKENS = {
    "splunk": "envelopes",
    "splunk-per-ip": "per-ip",
    "splunk-with-alert": "with-alert",
    "splunk-headers": "headers",
}


def start(program: str, setup: Setup, hec: Hec) -> Child:
    topics = {_variable(token): setup.topic(output) for output, token in TOKENS.items()}
    environment = {
        "INTEROP_BROKERS": setup.bootstrap,
        "INTEROP_GROUP": setup.name,
        "INTEROP_HEC": hec.origin,
        **topics,
    }
    command = [program, "--config", f"file:{CONFIG}"]
    return Child("the Collector", command, setup.folder / "collector.log", environment)


def _variable(token: str) -> str:
    return "INTEROP_" + token.upper().replace("-", "_")
