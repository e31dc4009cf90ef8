"""Browsers and systems by the names that people know them by."""

from __future__ import annotations

import pytest

from fastapi_pluggable_auth.security.user_agents import device_of

LINUX = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko)"
MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
IPAD = "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
WEB_VIEW = "Mozilla/5.0 (Linux; Android 15; Pixel 9; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0"
CHROME = "Chrome/140.0.0.0 Safari/537.36"
MOBILE = "Chrome/140.0.0.0 Mobile Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        (f"{LINUX} {CHROME}", "Chrome, Linux"),
        (f"{ANDROID} {MOBILE}", "Chrome, Android"),
        (f"{IPHONE} CriOS/140.0.7339.39 Mobile/15E148 Safari/604.1", "Chrome, iPhone"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 {CHROME}", "Chrome, ChromeOS"),
        (f"{LINUX} HeadlessChrome/140.0.0.0 Safari/537.36", "Chrome, Linux"),
        (f"{LINUX} Ubuntu Chromium/115.0.5790.170 {CHROME}", "Chromium, Linux"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, Linux"),
        ("Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0", "Firefox, Android"),
        (f"{IPHONE} FxiOS/140.0 Mobile/15E148 Safari/605.1.15", "Firefox, iPhone"),
        ("Mozilla/5.0 (X11; FreeBSD amd64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox, FreeBSD"),
        (
            "Mozilla/5.0 (Windows NT 10.0; rv:128.0) Gecko/20100101 Firefox/128.0 SeaMonkey/2.53",
            "SeaMonkey, Windows",
        ),
        (f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1", "Safari, iPhone"),
        (f"{IPAD} Version/18.5 Mobile/15E148 Safari/604.1", "Safari, iPad"),
        (f"{MAC} Version/18.5 Safari/605.1.15", "Safari, macOS"),
        (f"{LINUX} Version/17.0 Safari/605.1.15 Epiphany/45.0", "GNOME Web, Linux"),
        (f"{WINDOWS} {CHROME} Edg/140.0.0.0", "Edge, Windows"),
        (f"{ANDROID} {MOBILE} EdgA/140.0.0.0", "Edge, Android"),
        (f"{IPHONE} Version/18.0 EdgiOS/140.0.0.0 Mobile/15E148 Safari/605.1.15", "Edge, iPhone"),
        (f"{WINDOWS} Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763", "Edge, Windows"),
        (
            "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
            "Internet Explorer, Windows",
        ),
        (f"{LINUX} {CHROME} OPR/121.0.0.0", "Opera, Linux"),
        (f"{ANDROID} {MOBILE} OPR/90.0.0.0", "Opera, Android"),
        (f"{IPHONE} Version/18.5 Mobile/15E148 Safari/604.1 OPT/5.6.0", "Opera, iPhone"),
        ("Opera/9.80 (Android; Opera Mini/36.2/191.256; U; en) Presto/2.12 Version/12.16", "Opera, Android"),
        (f"{ANDROID} SamsungBrowser/28.0 {MOBILE}", "Samsung Internet, Android"),
        (f"{ANDROID} {MOBILE} HuaweiBrowser/15.0.4.300", "Huawei Browser, Android"),
        (f"{ANDROID} {MOBILE} XiaoMi/MiuiBrowser/14.30.1", "Mi Browser, Android"),
        (f"{WINDOWS} {CHROME} YaBrowser/25.8.0.0", "Yandex Browser, Windows"),
        (f"{LINUX} {CHROME} Vivaldi/7.5.3735.58", "Vivaldi, Linux"),
        (f"{MAC} Version/18.5 Safari/605.1.15 Ddg/18.5", "DuckDuckGo, macOS"),
        (f"{ANDROID} {MOBILE} DuckDuckGo/5", "DuckDuckGo, Android"),
        (f"{IPHONE} GSA/380.0.788317806 Mobile/15E148 Safari/604.1", "Google, iPhone"),
        (f"{IPHONE} Mobile/22F76 Instagram 390.0.0.28.85 (iPhone17,1; iOS 18_5)", "Instagram, iPhone"),
        (f"{WEB_VIEW} {MOBILE} [FB_IAB/FB4A;FBAV/520.0.0.40.99;]", "Facebook, Android"),
        (f"{IPHONE} Mobile/22F76 [FBAN/FBIOS;FBAV/520.0.0.38.101]", "Facebook, iPhone"),
        (f"{WEB_VIEW} {MOBILE} MicroMessenger/8.0.60", "WeChat, Android"),
        (f"{WEB_VIEW} {MOBILE} Line/15.12.0/IAB", "LINE, Android"),
        (f"{WEB_VIEW} {MOBILE}", "Android"),
        (f"{IPHONE} Mobile/15E148", "iPhone"),
        (f"{WINDOWS} Notes/3.1.0 Chrome/138.0.7204.251 Electron/37.4.0 Safari/537.36", "Windows"),
        (
            "Mozilla/5.0 (Phone; OpenHarmony 5.0) AppleWebKit/537.36 Chrome/114.0 Safari/537.36",
            "Chrome, HarmonyOS",
        ),
        ("okhttp/4.12.0", "okhttp/4.12.0"),
        ("curl/8.0 (x86)", "curl/8.0"),
        ("evil.example/1 (x86)", ""),
        ("Call+49-30-1234567", ""),
        ("", ""),
    ],
)
def test_devices_have_names_that_people_know(agent: str, device: str) -> None:
    assert device_of(agent) == device
