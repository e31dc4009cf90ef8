"""Billing: for the programs of users, and for jobs at night, by tokens of the OAuth server."""

from typing import Annotated

from fastapi import Depends, FastAPI
from granted_tokens import Grant, granted, verifying

app = FastAPI(title="Billing", lifespan=verifying)
Reader = Annotated[Grant, Depends(granted("bills:read"))]


@app.get("/bills")
async def bills(grant: Reader) -> dict[str, str]:
    return {"of": grant.user_id or "everybody", "to": grant.client_id}
