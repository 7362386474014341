"""Why a chain does not go on: what one node says, and one answer from several.

Each node knows its own side. What several say together tells a network that is cut from nodes that
are down, and one slow disk that nobody waits for from those that hold up everybody.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cli.client import Client, Document
from cli.errors import Refused, Unreachable

HEALTHY: Final = ("idle", "working")
OWN: Final = ("root_mismatch", "slow_disk", "clock_skew", "signing_nothing", "not_in_sync")
"""What a node knows best of itself, and what explains most first."""
SHARED: Final = ("partition", "quorum_lost", "proposal_refused", "proposer_silent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a node said; None: it did not answer."""

    name: str
    document: Document | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What all of it comes to: a code of `node.diagnosis.CODES`, and a sentence."""

    code: str
    text: str


async def ask_trouble(client: Client) -> Document | None:
    """Return what a node says of agreement that does not go on; None where it says no such thing.

    The document is that of ``/v1/consensus``.
    """
    try:
        document = await client.get("/v1/consensus")
    except (Unreachable, Refused):
        return None
    return None if document["diagnosis"] in HEALTHY else document


def compare(answers: Sequence[Answer]) -> Verdict:
    """Return the one reason that explains most; at least one node has answered."""
    said = {a.name: a.document for a in answers if a.document is not None}
    assert said, "whoever hears nobody has said so before"
    down = [answer.name for answer in answers if answer.document is None]
    # Those of the furthest height know the present set of miners.
    latest = max(said.values(), key=lambda document: int(document["height"]))
    members = {member["miner"] for member in latest["members"]}
    voters = {name: d for name, d in said.items() if d["miner"] in members}
    quorum, n = latest["quorum"], len(members)
    unasked = n - len(voters) - len(down)
    if len(voters) + max(0, unasked) < quorum:
        return Verdict(
            code="quorum_lost",
            text=f"{len(voters)} of {n} miners answer, and {quorum} are needed; "
            f"nothing from {', '.join(down)}",
        )
    codes = Counter(document["diagnosis"] for document in voters.values())
    if sum(codes[code] for code in HEALTHY) >= quorum:
        code = "working" if codes["working"] else "idle"
        others = [name for name, d in voters.items() if d["diagnosis"] not in HEALTHY]
        held = f"; not part of it: {', '.join(others)}" if others else ""
        return Verdict(code=code, text=f"the chain goes on{held}")
    for code in OWN:
        if codes[code]:
            return _told(code, voters)
    hearing = max((d["heard"] for d in voters.values()), default=0)
    if len(voters) >= quorum > hearing:
        return Verdict(
            code="partition",
            text=f"{len(voters)} of {n} miners run, but none of them hears more than {hearing}, "
            f"itself included, and {quorum} are needed",
        )
    for code in SHARED:
        if codes[code]:
            return _told(code, voters)
    return Verdict(code="working", text="nothing stands still that the nodes know of")


def _told(code: str, voters: dict[str, Document]) -> Verdict:
    found = {name: d["explanation"] for name, d in voters.items() if d["diagnosis"] == code}
    return Verdict(code=code, text="; ".join(f"{name}: {text}" for name, text in found.items()))
