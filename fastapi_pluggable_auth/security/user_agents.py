"""What a browser calls itself, in words that its owner knows."""

from __future__ import annotations

import re
from typing import Final

# In this order: each browser also names those it wants to be taken for, and an app that shows pages the
# browser that it shows them with.
_BROWSERS: Final = {
    "MicroMessenger/": "WeChat",
    "WhatsApp/": "WhatsApp",
    "Instagram ": "Instagram",
    "FBAN/": "Facebook",
    "FBAV/": "Facebook",
    "LinkedInApp": "LinkedIn",
    "Snapchat/": "Snapchat",
    "musical_ly": "TikTok",
    "BytedanceWebview/": "TikTok",
    " Line/": "LINE",
    "GSA/": "Google",
    "Electron/": "",  # some app, which need not say which
    "; wv)": "",  # so on Android
    "SamsungBrowser/": "Samsung Internet",
    "HuaweiBrowser/": "Huawei Browser",
    "MiuiBrowser/": "Mi Browser",
    "UCBrowser/": "UC Browser",
    "QQBrowser/": "QQ Browser",
    "YaBrowser/": "Yandex Browser",
    "DuckDuckGo/": "DuckDuckGo",
    "Ddg/": "DuckDuckGo",
    "Vivaldi/": "Vivaldi",
    "Brave/": "Brave",
    "Whale/": "Whale",
    "Silk/": "Silk",
    "Edg": "Edge",  # Edg, EdgA, EdgiOS, and Edge before it was built on Chromium
    "OPR/": "Opera",
    "OPT/": "Opera",
    "OPX/": "Opera",
    "Opera": "Opera",
    "Focus/": "Firefox Focus",
    "SeaMonkey/": "SeaMonkey",
    "FxiOS/": "Firefox",
    "Firefox/": "Firefox",
    "CriOS/": "Chrome",
    "Chromium/": "Chromium",
    "Chrome/": "Chrome",
    "Epiphany/": "GNOME Web",
    "Trident/": "Internet Explorer",
    "MSIE ": "Internet Explorer",
    "Safari/": "Safari",
}
_SYSTEMS: Final = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "OpenHarmony": "HarmonyOS",
    "Windows": "Windows",  # phones of which name Android too
    "Android": "Android",
    "Macintosh": "macOS",
    "CrOS": "ChromeOS",
    "Tizen": "Tizen",
    "Linux": "Linux",
    "FreeBSD": "FreeBSD",
}


_PRODUCT: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}(/\d{1,4}(\.\d{1,4}){0,2})?(?= |$)")
"""RFC 9110 section 10.1.5, without the dots and slashes that make mail programs see an address in it."""


def device_of(user_agent: str) -> str:
    """Such as `Firefox, Linux`, or the system alone; the product that comes first where it is neither, or
    nothing. What a client calls itself is a word in a mail, never a sentence or a link."""
    product = _PRODUCT.match(user_agent)
    names = [
        next((name for sign, name in known.items() if sign in user_agent), None)
        for known in (_BROWSERS, _SYSTEMS)
    ]
    return ", ".join(filter(None, names)) or (product[0] if product else "")
