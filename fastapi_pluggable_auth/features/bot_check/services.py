"""Services that tell people from programs, which are asked by one protocol: `siteverify`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final


@dataclass(frozen=True, kw_only=True, slots=True)
class Widget:
    """What a form of the pages shows: the element with this class in which the `script` puts the widget, and
    the `form_field` that it adds for the token. `sources` is what the page has to allow for it, by directives
    of a content security policy. `site_key` is public."""

    script: str
    css_class: str
    form_field: str
    sources: Mapping[str, Collection[str]]
    site_key: str = ""


@dataclass(frozen=True)
class SiteVerify:
    """A service that is asked by a POST of `secret`, `response` and `remoteip`, and answers `success`: the
    base of `Turnstile`, and of a class of your own for another one.

    The keys are those of AUTH_<NAME>_SITE_KEY and AUTH_<NAME>_SECRET_KEY, unless given here. `hostnames` are
    those of the pages with the widget: unless given, the ones of PUBLIC_BASE_URL and TRUSTED_ORIGINS.
    """

    name: ClassVar[str]
    """Of its settings, in snake_case."""
    url: ClassVar[str]
    """Where it is asked: with https, in a local app also on this machine."""
    widget: ClassVar[Widget]
    says_action: ClassVar[bool] = False
    """Whether it says which action the widget was made for."""
    test_secrets: ClassVar[Collection[str]] = frozenset()
    """Those that it publishes for tests. Whoever comes passes with them: for local apps only."""

    site_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    hostnames: Collection[str] | None = None


_CLOUDFLARE: Final = "https://challenges.cloudflare.com"


@dataclass(frozen=True)
class Turnstile(SiteVerify):
    """Turnstile of Cloudflare: https://developers.cloudflare.com/turnstile/get-started/server-side-validation/.
    Its settings are AUTH_TURNSTILE_SITE_KEY and AUTH_TURNSTILE_SECRET_KEY."""

    name = "turnstile"
    url = f"{_CLOUDFLARE}/turnstile/v0/siteverify"
    widget = Widget(
        script=f"{_CLOUDFLARE}/turnstile/v0/api.js",
        css_class="cf-turnstile",
        form_field="cf-turnstile-response",
        sources={"script-src": (_CLOUDFLARE,), "frame-src": (_CLOUDFLARE,)},
    )
    says_action = True
    test_secrets = frozenset(f"{first}x0000000000000000000000000000000AA" for first in "123")
