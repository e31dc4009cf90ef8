"""`llms.txt` (https://llmstxt.org): the pages of the site, with a line on each, for programs.

It links to the pages as Markdown, which stands beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

Nav: TypeAlias = Sequence[Mapping[str, "str | Nav"]]
"""As in mkdocs.yml."""
LINK: Final = re.compile(r"!?\[([^\]]*)\]\([^)]*\)(?:\{[^}]*\})?")
FROM_CODE: Final = re.compile(r"^::: ", re.MULTILINE)
"""What only the built page has."""


def index(name: str, summary: str, nav: Nav, pages: Mapping[str, str]) -> str:
    """The file, for pages by their path. Raises `ValueError` for one without a first sentence."""
    return f"# {name}\n\n> {summary}\n\n" + "\n".join(_lines(nav, pages)).strip() + "\n"


def _lines(nav: Nav, pages: Mapping[str, str]) -> Iterator[str]:
    for entry in nav:
        for title, inside in entry.items():
            if isinstance(inside, str):
                yield f"- [{title}]({target(inside, pages[inside])}): {first_sentence(pages[inside])}"
            else:
                yield f"\n## {title}\n"
                yield from _lines(inside, pages)


def target(path: str, text: str) -> str:
    """Where a program reads a page."""
    return path.removesuffix(".md") + "/" if FROM_CODE.search(text) else path


def first_sentence(text: str) -> str:
    """What a page says of itself below its title."""
    for block in re.split(r"\n\s*\n", text):
        if block[:1] not in ("#", "!", "|", "<", "`", "-", ""):
            sentence = LINK.sub(r"\1", " ".join(block.split()))
            return re.split(r"(?<=[.:]) (?=[A-Z])", sentence, maxsplit=1)[0].rstrip(":")
    raise ValueError(f"a page says nothing of itself: {text[:80]!r}")
