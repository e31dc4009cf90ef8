"""Sets of generations as text: which pairs of tokens of a session were replaced unseen."""

from __future__ import annotations

from collections.abc import Iterable


def as_ranges(generations: Iterable[int], room: int) -> str:
    """The numbers as ranges, such as `3,5-8`; the lowest are left out where they take more characters."""
    ranges: list[tuple[int, int]] = []
    for number in sorted(set(generations)):
        start = ranges.pop()[0] if ranges and ranges[-1][1] == number - 1 else number
        ranges.append((start, number))
    texts = [str(start) if start == end else f"{start}-{end}" for start, end in ranges]
    while len(",".join(texts)) > room:
        del texts[0]
    return ",".join(texts)


def includes(ranges: str, generation: int) -> bool:
    """Whether a number is among those that `as_ranges` wrote."""
    bounds = (each.partition("-") for each in ranges.split(",") if each)
    return any(int(start) <= generation <= int(end or start) for start, _, end in bounds)
