"""Pages as the tests see them, and a browser without JavaScript that opens them and fills in their forms."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@dataclass
class PageForm:
    """A form: where it posts to, what its hidden fields say, and which other fields and buttons it has."""

    action: str
    hidden: dict[str, str] = field(default_factory=dict)
    fields: dict[str, dict[str, str]] = field(default_factory=dict)
    buttons: list[dict[str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """What the tests look at in a page."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.forms: list[PageForm] = []
        self.feed(answer.text)

    @property
    def text(self) -> str:
        return self.answer.text

    @property
    def status(self) -> int:
        return self.answer.status_code

    @property
    def path(self) -> str:
        return self.answer.url.path

    @property
    def links(self) -> list[str]:
        return [attributes["href"] for tag, attributes in self.tags if tag == "a"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "form":
            self.forms.append(PageForm(attributes.get("action", self.answer.url.raw_path.decode())))
        elif tag == "button" and self.forms:
            self.forms[-1].buttons.append(attributes)
        elif tag == "input" and attributes["type"] == "hidden":
            self.forms[-1].hidden[attributes["name"]] = attributes["value"]
        elif tag == "input":
            self.forms[-1].fields[attributes["name"]] = attributes

    def one(self, tag: str, **having: str) -> dict[str, str]:
        (attributes,) = [
            attributes
            for name, attributes in self.tags
            if name == tag and having.items() <= attributes.items()
        ]
        return attributes

    def form(self, name: str) -> PageForm:
        """The form of this hidden name, or of a field of this name, or that posts to such a path."""
        for form in self.forms:
            named = form.hidden.get("form") == name or name in form.fields
            if named or form.action.partition("?")[0].endswith(f"/{name}"):
                return form
        raise AssertionError(f"{self.path} has no form {name!r}")


class FormBrowser:
    """A browser without JavaScript: it keeps cookies, sends what browsers send and follows redirects."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.page: Page

    async def open(self, path: str, **headers: str) -> Page:
        """Follows redirects to the page."""
        navigation = {"Sec-Fetch-Site": "same-origin", **headers}
        self.page = Page(await self.client.get(path, headers=navigation, follow_redirects=True))
        return self.page

    async def submit(self, name: str, /, **typed: str) -> Page:
        """Fills in a form of the page and follows where it leads."""
        form = self.page.form(name)
        origin = {"Origin": str(self.client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}
        action = urljoin(str(self.page.answer.url), form.action)
        answer = await self.client.post(
            action, data=form.hidden | typed, headers=origin, follow_redirects=True
        )
        self.page = Page(answer)
        return self.page
