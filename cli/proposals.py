"""Proposals, as who makes one or votes on it meets them: made once, and how the votes are."""

from typing import Any

from chain.kinds import KINDS
from chain.kinds.vote import MinerVote
from chain.records.proposals import OPEN_PROPOSALS_MAX
from chain.types import Address
from cli.client import Client, Document
from cli.errors import AlreadyProposed, Refused, Unreachable


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


async def standing(client: Client, kind: str, body: Any, answer: Document) -> str | None:
    """Say how the votes are on what a transaction of a miner has proposed, or voted on.

    None where it is of another kind or not committed, or the node does not tell: what became of the
    transaction itself is known by then, and is not to be lost.

    Parameters
    ----------
    answer : dict
        What `cli.signing.submit` returned.
    """
    if answer["status"] != "committed":
        return None
    if KINDS[kind].enact is not None:
        id: str = answer["id"]
    elif isinstance(body, MinerVote):
        id = body.proposal.hex()
    else:
        return None
    try:
        proposal = await client.get(f"/v1/proposals/{id}")
        quorum = (await client.get("/v1/consensus"))["quorum"]
        approvals, refusals = len(proposal["approvals"]), len(proposal["refusals"])
        return f"{proposal['status']}, {approvals} for and {refusals} against; {quorum} decide"
    except (Refused, Unreachable, KeyError, TypeError):
        return None
