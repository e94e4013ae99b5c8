"""A program that runs beside the checks, with a log of its own and a bounded end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STOP_SECONDS = 20


def wait_for(what: str, seconds: float, ask: Callable[[], T | None]) -> T:
    """Asks until there is an answer, and fails by name where there is none in time."""
    deadline = time.monotonic() + seconds
    while (answer := ask()) is None:
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return answer


def wait_for_all(what: str, seconds: float, missing: Callable[[], dict[str, int]], child: "Child") -> None:
    """Waits until nothing is missing, and fails with what is."""
    left: dict[str, int] = {}

    def ask() -> bool | None:
        nonlocal left
        left = {name: count for name, count in missing().items() if count > 0}
        return None if left else True

    try:
        child.wait_for(what, seconds, ask)
    except AssertionError as error:
        raise AssertionError(f"missing are {left}: {error}") from None


class Child:
    """Runs until it is stopped; a failure shows the end of its log."""

    def __init__(self, name: str, command: list[str], log: Path, environment: dict[str, str] | None = None):
        self.name, self.log = name, log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
            )

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, what: str, seconds: float, ask: Callable[[], T | None]) -> T:
        """Like the function of this name, and fails at once if the program ends."""

        def ask_the_living() -> T | None:
            answer = ask()
            if answer is None and self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended with {self.process.returncode}:\n{self.end_of_log()}")
            return answer

        try:
            return wait_for(what, seconds, ask_the_living)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.name} said:\n{self.end_of_log()}") from None

    def stop(self) -> None:
        """Asks it to stop, and demands that it ends well."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not stop within {STOP_SECONDS} s:\n{self.end_of_log()}") from None
        assert code == 0, f"{self.name} ended with {code}:\n{self.end_of_log()}"

    def end_of_log(self) -> str:
        return "\n".join(self.said().splitlines()[-40:])
