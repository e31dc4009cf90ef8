"""What a browser calls itself, in words that its owner knows."""

from __future__ import annotations

import re
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


_PRODUCT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}(/\d{1,4}(\.\d{1,4}){0,2})?(?= |$)")
"""RFC 9110 section 10.1.5, without the dots and slashes that make mail programs see an address in it."""


def device_of(user_agent: str) -> str:
    """Such as `Firefox, Linux`; the product that comes first where it is not a browser, or nothing. What a
    client calls itself is a word in a mail, never a sentence or a link."""
    product = _PRODUCT.match(user_agent)
    names = [
        next((name for sign, name in known.items() if sign in user_agent), None)
        for known in (_BROWSERS, _SYSTEMS)
    ]
    return ", ".join(filter(None, names)) or (product[0] if product else "")
