"""Pages from templates, with the headers that keep them safe (ASVS 3.4). Nothing comes from elsewhere,
but for what a feature asks of a browser, where the app has such a one."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...auth import Auth
from ...config import origin_of
from ...http.addresses import account_path, home, own_path, with_query
from ...http.csrf import csrf_token
from ...models import AbstractUser
from ...security.passwords import MAXIMUM_LENGTH, MINIMUM_LENGTH
from ...words.texts import Words, words_for
from .forms import Problem

TEMPLATES: Final = Path(__file__).parent / "templates"

MAILBOX: Final = "/dev/mailbox"
"""Where the mails of development are read."""

HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Vary": "Accept, Accept-Language, Cookie",
}


def see_other(
    auth: Auth, request: Request, page: str, *, notice: str | None = None, next: str | None = None
) -> RedirectResponse:
    """Sends the browser on, to an account page or a path of this app, with a notice to show there (a key of
    the words `notices`)."""
    path = page if page.startswith("/") else account_path(request, auth, page)
    return go_to(with_query(path, notice=notice, next=next))


def go_to(location: str) -> RedirectResponse:
    """The same to an address that is complete."""
    return RedirectResponse(location, 303, {"Referrer-Policy": "no-referrer", "Cache-Control": "no-store"})


def render_page(
    auth: Auth,
    request: Request,
    name: str,
    status: int = 200,
    *,
    user: AbstractUser | None = None,
    title: str | None = None,
    problem: Problem | None = None,
    image: str | None = None,
    **context: Any,
) -> HTMLResponse:
    """The page of the template `page_<name>.html`, in the language of the user or of the browser.

    `title` is a key of the words, `<name>.title` unless given; `image` a PNG in base64. A problem with the
    last try sets the status.
    """
    features = auth.features
    accepted, theirs = request.headers.get("accept-language", ""), user.language if user else None
    words = words_for(auth.settings, theirs, accepted, features.folders)
    words = words.knowing(minimum=MINIMUM_LENGTH, maximum=MAXIMUM_LENGTH)
    if problem is not None:
        words = words.knowing(wait=words.wait(problem.retry_after))
        words = words.saying(f"errors.{problem.code}", problem.detail)
    assets = _assets(auth.settings.template_dir, features.folders.templates, features.scripts)
    home_url = home(request, auth)
    policy: dict[str, Sequence[str]] = {**assets.policy, "form-action": _form_targets(home_url)}
    if pictures := _sources_of_pictures(auth, drawn=image is not None):
        policy["img-src"] = pictures

    def asked(address: str) -> str:
        """The same address, which the script of the page then may ask."""
        _allow(policy, "connect-src", "'self'")
        return address

    def guards(action: str | None) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The templates of what is asked before this action, whose sources the page then may load from."""
        if action is None:
            return
        for guard in features.guards:
            for directive, sources in guard.sources.items():
                _allow(policy, directive, *sources)
            yield guard.template, guard.values(auth, action)

    slots = [slot for slot in features.slots_in(name) if slot.is_for(auth, user)]
    values = {
        "name": name,
        "app_name": auth.settings.app_name,
        "logo": auth.settings.page_logo_url,
        "favicon": auth.settings.page_favicon_url,
        "terms": auth.settings.terms_url,
        "privacy": auth.settings.privacy_url,
        "style": assets.style,
        "script": assets.script,
        "language": words.language,
        "direction": words.direction,
        "text": words,
        "csrf_token": lambda: csrf_token(request),
        "pages": auth.pages,
        "may_sign_up": auth.settings.signup == "open",
        "usernames": auth.has_usernames,
        "mailbox": f"{request.scope.get('root_path', '')}{MAILBOX}" if auth.settings.dev_mailbox else None,
        "path": lambda page, next=None: with_query(account_path(request, auth, page), next=next),
        "address": lambda path, next=None: with_query(own_path(request, auth, path), next=next),
        "home": home_url,
        "next": None,
        "asked": asked,
        "guarded": None,
        "guards": guards,
        "strength": lambda: asked(account_path(request, auth, "password-strength")),
        "title": words(title or f"{name}.title"),
        "user": user,
        "problem": problem,
        "image": image,
        "notice": _notice(request, words),
        "minimum": MINIMUM_LENGTH,
        "maximum": MAXIMUM_LENGTH,
        "slots": slots,
        "values_of": {slot.template: slot.values or {} for slot in slots},
        "autofill": " ".join(slot.autofill for slot in features.slots_in("sign_in") if slot.autofill),
        "navigation": [slot for slot in features.slots_in("navigation") if slot.is_for(auth, user)],
        **context,
    }
    html = assets.environment.get_template(f"page_{name}.html").render(values)
    headers: dict[str, str] = {
        **HEADERS,
        "Content-Security-Policy": "; ".join(f"{name} {' '.join(policy[name])}" for name in policy),
        "Content-Language": words.language,
    }
    if problem is not None:
        status, headers = problem.status, headers | problem.headers
    return HTMLResponse(html, status, headers)


def _allow(policy: dict[str, Sequence[str]], directive: str, *sources: str) -> None:
    policy[directive] = tuple(dict.fromkeys((*policy.get(directive, ()), *sources)))


def _form_targets(home_url: str | None) -> Sequence[str]:
    """Browsers also hold the redirect that answers a form against these (CSP Level 3 section 6.4.1)."""
    return ("'self'",) if home_url is None or home_url.startswith("/") else ("'self'", origin_of(home_url))


def _notice(request: Request, words: Words) -> str | None:
    """What was done just before: a key of the section `notices`, never free text."""
    key = f"notices.{request.query_params.get('notice', '')}"
    return words(key) if key in words.texts else None


def _sources_of_pictures(auth: Auth, *, drawn: bool) -> list[str]:
    """From where the page may show pictures: one that is drawn for it, logo and favicon (CSP Level 3 section
    6.1.9)."""
    urls = [url for url in (auth.settings.page_logo_url, auth.settings.page_favicon_url) if url]
    origins = {"'self'" if url.startswith("/") else origin_of(url) for url in urls}
    return [*(["data:"] if drawn else []), *sorted(origins)]


class _Assets:
    """What is made once for the folders of templates of an app."""

    def __init__(self, folders: list[Path], scripts: tuple[tuple[str, ...], ...]) -> None:
        self.environment = Environment(
            loader=FileSystemLoader(folders),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.style = self._source("page.css") + self._source("page_extra.css")
        added = ["".join(self._source(name) for name in names) for names in scripts]
        self.script = self._source("page.js") + "".join(f";(() => {{\n{each}}})()\n" for each in added)
        self.policy: Mapping[str, Sequence[str]] = {
            "default-src": ("'none'",),
            "style-src": (f"'{_digest(self.style)}'",),
            "script-src": (f"'{_digest(self.script)}'",),
            "base-uri": ("'none'",),
            "frame-ancestors": ("'none'",),
            "object-src": ("'none'",),
        }

    def _source(self, name: str) -> str:
        assert self.environment.loader is not None  # noqa: S101 - set above
        return self.environment.loader.get_source(self.environment, name)[0]


@lru_cache(maxsize=16)
def _assets(
    template_dir: Path | None, features: tuple[Path, ...], scripts: tuple[tuple[str, ...], ...]
) -> _Assets:
    return _Assets([*([] if template_dir is None else [template_dir]), TEMPLATES, *features], scripts)


def _digest(source: str) -> str:
    """As a content security policy names an inline style or script (CSP Level 3 section 2.3.1)."""
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
