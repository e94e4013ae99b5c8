"""What Azure Monitor documents of a row of a custom table, and of a message by way of Event Hubs."""

import json
import re
from datetime import datetime

from . import Refused

COLUMN = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,44}")
RESERVED = {"_resourceid", "id", "_subscriptionid", "tenantid", "type", "uniqueid", "title"}
MOST_BYTES = 64 * 1024


def check(payload: bytes) -> None:
    if len(payload) > MOST_BYTES:
        raise Refused(f"a message has at most {MOST_BYTES} bytes, this has {len(payload)}")
    row = json.loads(payload)
    if not isinstance(row, dict):
        raise Refused(f"a row is an object, not {row!r}")
    for name in row:
        if not COLUMN.fullmatch(name) or name.lower() in RESERVED:
            raise Refused(f"{name} can't be a column's name")
    try:
        generated = datetime.fromisoformat(row["TimeGenerated"].replace("Z", "+00:00"))
    except (KeyError, ValueError, AttributeError) as error:
        raise Refused(f"TimeGenerated is a time: {error!r}") from None
    if generated.tzinfo is None:
        raise Refused("TimeGenerated is in UTC")
