"""What was measured, as tables in Markdown and as a plot."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from .measures import Length, Sample

PACKAGES = (
    "fastapi",
    "tortoise-orm",
    "uvicorn",
    "uvloop",
    "httptools",
    "asyncpg",
    "aiosqlite",
    "python-jose",
    "joserfc",
    "bcrypt",
    "fastapi-users",
    "authx",
    "sqlalchemy",
)
TITLES = {
    "me": "`GET /auth/me`, 32 connections",
    "single": "`GET /auth/me`, one connection, one worker",
    "refresh": "`POST /auth/refresh`, 32 sessions",
    "login": "`POST /auth/login`, 32 connections, one worker, PostgreSQL",
    "p99": "99th percentile of `/auth/me`, one worker, PostgreSQL",
    "memory": "Memory of that worker, as far as no other process shares it",
    "contended": "`POST /auth/login`, 8 connections, beside 32 that ask for `/auth/me` without pause",
    "signups": "Memory of a worker with every feature of the demo, that no other process shares",
    "soak": "Memory under a mixed load",
    "start": "From the start of the process to the first answer",
    "growth: me": "`GET /auth/me` by the number of users",
    "growth: refresh": "`POST /auth/refresh` by the number of users",
    "growth: login": "`POST /auth/login` by the number of users",
}
"""The figures, in the order of the report."""

BASES = {
    **dict.fromkeys(("me", "single", "refresh"), "floor"),
    **dict.fromkeys(("login", "contended"), "cores / bcrypt time"),
    "start": "FastAPI and Tortoise",
}
"""What a figure is told as a ratio of."""

PLOTTED = (("me", "requests/s"), ("refresh", "requests/s"))


def tables(samples: Sequence[Sample]) -> str:
    """A table for each figure: medians, their spread over the rounds, and ratios."""
    return "\n\n".join(
        f"### {title}\n\n{_table(figure, [sample for sample in samples if sample.figure == figure])}"
        for figure, title in TITLES.items()
        if any(sample.figure == figure for sample in samples)
    )


def machine(length: Length) -> str:
    """Where and how it was measured."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}; {versions}. {length.users:,} users with a session each, bcrypt "
        f"at cost 12 everywhere, medians of {length.rounds} rounds of {length.seconds:g} s in which the "
        "systems take turns."
    )


def plot(samples: Sequence[Sample], path: Path) -> None:
    """Bars of the requests per second, with the spread, one panel for each figure and setting."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    from matplotlib import pyplot

    panels = [
        (figure, setting)
        for figure, _ in PLOTTED
        for setting in _distinct(sample.setting for sample in samples if sample.figure == figure)
    ]
    rows = (len(panels) + 1) // 2
    chart, axes = pyplot.subplots(rows, 2, figsize=(10, 2.1 * rows), squeeze=False)
    for (figure, setting), panel in zip(panels, axes.flat, strict=False):
        chosen = [sample for sample in samples if (sample.figure, sample.setting) == (figure, setting)]
        systems = _distinct(sample.system for sample in chosen)
        medians = [_median(chosen, system) for system in systems]
        spreads = [_spread(chosen, system) for system in systems]
        errors = [
            [middle - low for middle, (low, _) in zip(medians, spreads, strict=True)],
            [high - middle for middle, (_, high) in zip(medians, spreads, strict=True)],
        ]
        colours = ["#2563eb" if "pluggable" in system else "#9ca3af" for system in systems]
        panel.barh(systems, medians, xerr=errors, color=colours, error_kw={"ecolor": "#374151", "capsize": 2})
        panel.invert_yaxis()
        panel.set_title(f"{figure}: {setting}, requests/s", fontsize=9, loc="left")
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    chart.tight_layout()
    chart.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(chart)


def _table(figure: str, samples: Sequence[Sample]) -> str:
    base = BASES.get(figure)
    unit = samples[0].unit
    lines = [f"| setting | system | {unit} | spread |{f' of the {base} |' if base else ''}"]
    lines.append("|---|---|---:|---:|" + ("---:|" if base else ""))
    for setting in _distinct(sample.setting for sample in samples):
        chosen = [sample for sample in samples if sample.setting == setting]
        based = chosen if any(sample.system == base for sample in chosen) else samples
        for system in _distinct(sample.system for sample in chosen):
            value, (low, high) = _median(chosen, system), _spread(chosen, system)
            line = f"| {setting} | {system} | {_number(value)} | {_number(low)} to {_number(high)} |"
            lines.append(line + (f" {value / _median(based, base):.2f} |" if base else ""))
    return "\n".join(lines)


def _median(samples: Iterable[Sample], system: str) -> float:
    return statistics.median(sample.value for sample in samples if sample.system == system)


def _spread(samples: Iterable[Sample], system: str) -> tuple[float, float]:
    values = [sample.value for sample in samples if sample.system == system]
    return min(values), max(values)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def progress(sample: Sample) -> None:
    """Tells a sample as it is taken."""
    print(
        f"{sample.figure:16} {sample.setting:28} {sample.system:26} {_number(sample.value):>8} {sample.unit}",
        file=sys.stderr,
        flush=True,
    )
