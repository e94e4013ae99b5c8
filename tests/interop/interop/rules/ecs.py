"""Elastic's own types of the Elastic Common Schema, in the newest package of its major version, asked by the compiler.

An object that is written down must not have a member that its type doesn't know: so a field that the schema doesn't
name is refused, and so is a value that is of another kind.
"""

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path

from . import Refused

# What is the record's own, and so not in the schema: its fields stand under one name that no field set has.
OWN = "alert_ips"

# The version is a constant of the types, and theirs is an older one of the same major version.
HEAD = f"""import type {{ Ecs }} from '@elastic/ecs';
type Taken = Omit<Ecs, 'ecs'> & {{ ecs: {{ version: `8.${{string}}` }}; {OWN}: object }};
export const records: Taken[] = [
"""

OPTIONS = ["--noEmit", "--strict", "--skipLibCheck", "--pretty", "false", "--target", "es2022"]
OPTIONS += ["--module", "nodenext", "--moduleResolution", "nodenext"]


def refused(events: list[object]) -> dict[int, str]:
    """Which of the events are refused, and why. All at once: the compiler's start takes longest."""
    node = Path(os.environ["INTEROP_NODE"])
    first_line = HEAD.count("\n") + 1
    with tempfile.TemporaryDirectory(prefix="records-", dir=node) as folder:
        source = Path(folder) / "records.ts"
        source.write_text(HEAD + "".join(json.dumps(event) + ",\n" for event in events) + "];\n")
        command = [str(node / "node_modules" / ".bin" / "tsc"), *OPTIONS, str(source)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
    found: dict[int, str] = {}
    for line, words in re.findall(r"records\.ts\((\d+),\d+\): (.*)", done.stdout):
        found.setdefault(int(line) - first_line, words)
    assert bool(done.returncode) == bool(found), f"the compiler itself failed: {done.stdout}{done.stderr}"
    return found


def check(events: list[object]) -> None:
    if found := refused(events):
        raise Refused("; ".join(f"record {number}: {words}" for number, words in found.items()))
