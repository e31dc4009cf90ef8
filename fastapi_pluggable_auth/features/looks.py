"""What commands find where they look at a server as its users would."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Look:
    """One thing that was looked at: a `problem` says what is wrong and what to do; without one it is as it
    should be, or `uncertain`, which a sign-in would tell."""

    subject: str
    problem: str | None = None
    uncertain: bool = False
