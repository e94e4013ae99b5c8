"""The Open Cybersecurity Schema Framework's own compiled schema of a version, as `ocsf-json-schema` carries it."""

import re
from functools import cache
from ipaddress import ip_address

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from . import Refused

# The newest version that is published, and the one that records say they follow.
VERSION = "1.8.0"

IP_ADDRESS = 2  # the `type_id` of an observable


def check(event: object) -> None:
    """By the schema of the class, which knows every attribute, and by what is only said in words of observables."""
    if not isinstance(event, dict):
        raise Refused(f"an event is an object, not {event!r}")
    if (version := event.get("metadata", {}).get("version")) != VERSION:
        raise Refused(f"metadata.version is {version!r}; it is judged by {VERSION}")
    errors = sorted(_validator(event.get("class_uid")).iter_errors(event), key=lambda error: error.json_path)
    if errors:
        raise Refused("; ".join(f"{error.json_path}: {error.message}" for error in errors))
    _check_type(event)
    for observable in event.get("observables", []):
        _check_observable(event, observable)


@cache
def _validator(class_uid: object) -> Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    try:
        name = schema.schema.lookup_class_name_from_uid(class_uid)
    except ValueError as error:
        raise Refused(str(error)) from None
    described = schema.get_class_schema(name)
    Draft202012Validator.check_schema(described)
    return Draft202012Validator(described)


def _check_type(event: dict) -> None:
    if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
        raise Refused(f"type_uid {event['type_uid']} is not of this class and activity")


def _check_observable(event: dict, observable: dict) -> None:
    """An observable has its value again that stands elsewhere in the event, where its name says."""
    found: object = event
    for step in re.findall(r"[^.\[\]]+", observable["name"]):
        try:
            found = found[int(step)] if isinstance(found, list) else found[step]
        except (IndexError, KeyError, TypeError, ValueError):
            raise Refused(f"the observable {observable['name']} points at nothing") from None
    if found != observable["value"]:
        raise Refused(f"the observable {observable['name']} is {observable['value']!r}, and there stands {found!r}")
    if observable["type_id"] == IP_ADDRESS:
        try:
            ip_address(observable["value"])
        except ValueError as error:
            raise Refused(str(error)) from None
