"""Programs in Python that others have written for OAuth and MCP. They need later versions of what the package
needs, too, so that they cannot be installed with the lowest of them."""

from __future__ import annotations

from importlib.util import find_spec

MODULES = ("mcp", "mcp_authlab", "authlib")


def missing() -> str | None:
    """What there is to install first."""
    return next((f"{name} is not installed" for name in MODULES if find_spec(name) is None), None)
