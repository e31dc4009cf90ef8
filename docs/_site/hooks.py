"""What the site takes from the code when it is built, so that it cannot go stale.

A page says where with a comment such as `<!-- from the code: settings -->`. MkDocs calls `on_page_markdown`,
and `on_env` when it has read all pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import errors_page
import llms
import routes_page
import settings_page

ROOT: Final = Path(__file__).parent.parent.parent
MARKER: Final = re.compile(r"<!-- from the code: (\w+) -->")
COMMENT: Final = re.compile(r"^ *<!--.*?-->\n", re.DOTALL | re.MULTILINE)
"""Notes for the tests, and blocks that run and are not shown."""
ELSEWHERE: Final = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+(?:examples|fastapi_pluggable_auth|benchmarks|tests)\b[^)]*\)"
)
"""A link from a page to a file beside `docs`, which is not part of the site."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with what it takes from the code, without comments and links that lead out of the site."""
    page = MARKER.sub(lambda found: PARTS[found[1]](), markdown)
    page = errors_page.ENTRY.sub(errors_page.with_facts, page)
    return ELSEWHERE.sub(r"\1", COMMENT.sub("", page))


def on_env(_: Any, config: Any, files: Any) -> None:
    """Writes `llms.txt`, and the pages as Markdown, into the site."""
    pages = {file.src_uri: file.page.markdown for file in files.documentation_pages()}
    written = pages | {"llms.txt": llms.index(config.site_name, config.site_description, config.nav, pages)}
    for path, text in written.items():
        target = Path(config.site_dir, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def changelog() -> str:
    """The file CHANGELOG.md without its title."""
    return (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")[2]


PARTS: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_page.tables,
    "routes": routes_page.entries,
    "changelog": changelog,
}
