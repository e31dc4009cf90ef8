"""What a browser calls itself, in words that its owner knows."""

from __future__ import annotations

from typing import Final

# In this order: each browser also names those it wants to be taken for.
_BROWSERS: Final = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "FxiOS/": "Firefox",
    "Chrome/": "Chrome",
    "CriOS/": "Chrome",
    "Safari/": "Safari",
}
_SYSTEMS: Final = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Macintosh": "macOS",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}


def device_of(user_agent: str) -> str:
    """Such as `Firefox, Linux`; the product that comes first where it is no browser, or nothing."""
    names = [
        next((name for sign, name in known.items() if sign in user_agent), None)
        for known in (_BROWSERS, _SYSTEMS)
    ]
    return ", ".join(filter(None, names)) or user_agent.partition(" ")[0][:40]
