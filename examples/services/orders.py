"""Orders: believes an access token without asking anybody."""

from collections import defaultdict

from access_tokens import SignedIn, verifying
from fastapi import FastAPI

app = FastAPI(title="Orders", lifespan=verifying)
ORDERS: defaultdict[str, list[str]] = defaultdict(list)  # by user; think of a database


@app.post("/orders", status_code=201)
async def order(item: str, caller: SignedIn) -> list[str]:
    ORDERS[caller.user_id].append(item)
    return ORDERS[caller.user_id]


@app.get("/orders")
async def orders(caller: SignedIn) -> list[str]:
    return ORDERS[caller.user_id]
