"""A proposal that is open already is voted for, and not made a second time."""

from typing import Any

from chain.kinds import KINDS
from chain.records.proposals import OPEN_PROPOSALS_MAX
from chain.types import Address
from cli.client import Client
from cli.errors import AlreadyProposed


async def require_not_open(client: Client, kind: str, body: Any, sender: Address) -> None:
    """Make sure that `sender` does not propose what is proposed already; other kinds pass.

    The chain takes it, and voids the later one when the first is enacted; but votes that go now to
    the one and now to the other decide neither. A miner that has refused the open one may propose
    it again: a vote is never changed, so it has no other way to change its mind.

    Raises
    ------
    AlreadyProposed
        The same is open, and the sender could vote for it or has done so.
    """
    if KINDS[kind].enact is None:
        return
    wanted = KINDS[kind].body.render(body)
    for proposal in await client.pages("/v1/proposals", limit=OPEN_PROPOSALS_MAX, status="open"):
        if proposal["kind"] != kind or proposal["body"] != wanted:
            continue
        if sender.hex() not in proposal["refusals"]:
            raise AlreadyProposed(proposal["id"], is_approved=sender.hex() in proposal["approvals"])
