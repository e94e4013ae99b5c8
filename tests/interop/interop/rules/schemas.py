"""The project's own JSON Schemas, as an implementation of JSON Schema of another hand understands them."""

import json
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker

from . import Refused

SCHEMAS = Path(__file__).resolve().parents[4] / "config" / "schemas"

_formats = FormatChecker()


# The schemas say `ip`, which JSON Schema has no format for.
@_formats.checks("ip", raises=ValueError)
def _is_address(value: object) -> bool:
    return not isinstance(value, str) or str(ip_address(value)) == value


def check(form: str, document: object) -> None:
    errors = sorted(_validator(form).iter_errors(document), key=lambda error: error.json_path)
    if errors:
        raise Refused("; ".join(f"{error.json_path}: {error.message}" for error in errors))


def forms() -> list[str]:
    return sorted(path.stem for path in SCHEMAS.glob("*.json"))


@cache
def _validator(form: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{form}.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=_formats)
