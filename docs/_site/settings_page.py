"""Every setting as the rows of tables."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import annotated_types
from pydantic.fields import FieldInfo

from fastapi_pluggable_auth import AuthSettings
from fastapi_pluggable_auth.config import PREFIX, Settings
from fastapi_pluggable_auth.features.shipped import SHIPPED


def groups() -> Iterator[type[Settings]]:
    """Each class that `AuthSettings` is made of, then those of the features; its docstring is the title."""
    yield from reversed(AuthSettings.__bases__)
    for feature in SHIPPED:
        if isinstance(feature.settings, type):
            yield feature.settings


def tables() -> str:
    """A table for each group."""
    parts = []
    for subject in groups():
        title = str(inspect.getdoc(subject)).rstrip(".")
        rows = "\n".join(_setting(name, field) for name, field in subject.model_fields.items())
        parts.append(f"## {title}\n\n| name | type | default | purpose |\n|---|---|---|---|\n{rows}")
    return "\n\n".join(parts)


def _setting(name: str, field: FieldInfo) -> str:
    anchor = f"`{PREFIX}{name.upper()}`{{ #{name} }}"
    return f"| {anchor} | {_kind(field)} | {_default(field.default)} | {field.description} |"


def _kind(field: FieldInfo) -> str:
    annotation = field.annotation
    arguments = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
    if typing.get_origin(annotation) is typing.Literal:
        return " \\| ".join(f"`{choice}`" for choice in arguments)
    if typing.get_origin(annotation) in (list, dict):
        kind = "list" if typing.get_origin(annotation) is list else "pairs"
    else:
        plain = arguments[0] if arguments else annotation
        kinds = {
            str: "text",
            bool: "true/false",
            int: "number",
            float: "number",
            Path: "path",
            timedelta: "duration",
        }
        kind = kinds.get(plain, getattr(plain, "__name__", "text"))
    bounds = []
    for bound in field.metadata:
        if isinstance(bound, annotated_types.Ge):
            bounds.append(f"from {bound.ge}")
        elif isinstance(bound, annotated_types.Gt):
            bounds.append(f"more than {bound.gt}")
        elif isinstance(bound, annotated_types.Le):
            bounds.append(f"up to {bound.le}")
        elif isinstance(bound, annotated_types.MinLen):
            bounds.append(f"{bound.min_length} characters or more")
    return ", ".join([kind, *bounds])


def _default(value: object) -> str:
    if value is None or value in ([], {}, ""):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, timedelta):
        return f"`{int(value.total_seconds())}` ({_spoken(value)})"
    return f"`{value}`"


def _spoken(duration: timedelta) -> str:
    seconds = int(duration.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        if seconds % length == 0:
            return f"{seconds // length} {unit}{'' if seconds == length else 's'}"
    raise AssertionError("unreachable")
