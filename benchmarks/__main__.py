"""`python -m benchmarks`: measures everything, and prints tables; `--help` tells the options."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from . import report
from .measures import FULL, QUICK, Bench


def main() -> None:
    """Reads the options and runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("figures", nargs="*", help="which figures (default: all)")
    parser.add_argument("--quick", action="store_true", help="few users and short rounds: to try it out")
    parser.add_argument("--users", type=int, help="how many there are")
    parser.add_argument("--rounds", type=int, help="how often each system has its turn")
    parser.add_argument("--seconds", type=float, help="how long a turn lasts")
    parser.add_argument("--workers", type=int, nargs="+", help="with how many workers: 1 2")
    parser.add_argument("--systems", nargs="+", help="only these: pluggable floor better_auth ...")
    parser.add_argument("--plot", type=Path, help="where to write the plot (SVG)")
    options = parser.parse_args()
    given = {name: getattr(options, name) for name in ("users", "rounds", "seconds")}
    given |= {name: tuple(getattr(options, name) or ()) for name in ("workers", "systems")}
    length = replace(QUICK if options.quick else FULL, **{name: each for name, each in given.items() if each})
    samples = []
    with TemporaryDirectory() as folder:
        figures = Bench(Path(folder), length).figures()
        for name in options.figures or figures:
            for sample in figures[name]():
                report.progress(sample)
                samples.append(sample)
    print(report.machine(length), report.tables(samples), sep="\n\n")
    if options.plot:
        report.plot(samples, options.plot)


if __name__ == "__main__":
    main()
