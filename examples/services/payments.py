"""Payments: shows them to a good access token, and takes one only in a session that has not ended."""

from collections import defaultdict

from access_tokens import SignedIn, StillSignedIn, verifying
from fastapi import FastAPI

app = FastAPI(title="Payments", lifespan=verifying)
PAYMENTS: defaultdict[str, list[int]] = defaultdict(list)  # by user, in cents; think of a database


@app.post("/payments", status_code=201)
async def pay(cents: int, caller: StillSignedIn) -> list[int]:
    PAYMENTS[caller.user_id].append(cents)
    return PAYMENTS[caller.user_id]


@app.get("/payments")
async def payments(caller: SignedIn) -> list[int]:
    return PAYMENTS[caller.user_id]
