"""One performance for all checks; what it is played with comes from `run`."""

import os
import signal
from pathlib import Path

import pytest

from interop.stage import Played, play


# A time limit from outside must not leave the daemon and the Collector behind: the tests end as they do on Ctrl-C.
signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def played() -> Played:
    given = {name: os.environ[f"INTEROP_{name}"] for name in ("PROGRAM", "COLLECTOR", "BOOTSTRAP", "FOLDER")}
    return play(given["PROGRAM"], given["COLLECTOR"], given["BOOTSTRAP"], Path(given["FOLDER"]))
