"""What the code says about each error, for the entries that people have written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from routes_page import anchor_of, codes_of, operations

from fastapi_pluggable_auth.errors import ErrorTable
from fastapi_pluggable_auth.features.feature import Features
from fastapi_pluggable_auth.features.shipped import SHIPPED

ENTRY: Final = re.compile(r"^### (\w+)\n\n(.+?)(?=\n+##|\n*\Z)", re.DOTALL | re.MULTILINE)
"""An entry of the page of errors: the code, and what a person has written about it."""


def error_codes() -> Mapping[str, ErrorTable]:
    """All codes of the package by their name on the wire."""
    return Features(SHIPPED).errors


@cache
def routes_with(code: str) -> list[str]:
    """Links to the routes that refuse with this code."""
    return [
        f"[`{method} {path}`](http.md#{anchor_of(method, path)})"
        for method, path, operation in operations()
        if code in [each for _, each in codes_of(operation)]
    ]


def with_facts(entry: re.Match[str]) -> str:
    """An entry with what the code says about it."""
    error = error_codes().get(entry[1])
    if error is None:
        return entry[0]
    routes = routes_with(error.code)
    where = "every route" if len(routes) == len(list(operations())) else ", ".join(routes)
    parts = [f"### `{error.code}` {{ #{error.code} }}", f'**{error.status}** "{error.detail}"', entry[2]]
    return "\n\n".join([*parts, *([f"From {where}."] if where else [])])
