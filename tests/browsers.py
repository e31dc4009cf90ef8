"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing() -> str | None:
    """What there is to install before a browser can be driven."""
    if CHROMIUM is None:
        return "chromium is not installed"
    if importlib.util.find_spec("axe_playwright_python") is None:
        return "the extra `browser` is not installed"
    return None


async def launch(playwright: Any) -> Any:
    """Starts Chromium, with the cache of visited pages that people have and Playwright switches off."""
    return await playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=ARGUMENTS,
        ignore_default_args=["--disable-back-forward-cache"],
    )


def axe_source() -> str:
    """The source of axe-core, which finds what keeps people out (WCAG 2.2)."""
    spec = importlib.util.find_spec("axe_playwright_python")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "axe.min.js").read_text("utf-8")
