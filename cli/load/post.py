"""Posting batches of signed transactions, and counting what becomes of them."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

from cli.client import Client
from cli.errors import Refused, TimedOut, Unreachable
from cli.load.watch import CommitWatch

TRIES_MAX: Final = 100
"""How often a transaction is offered to a node whose pool is full."""
PAUSE_S_MAX: Final = 1.0
PAUSE_S: Final = 0.2
"""Where the node does not say when there is room again."""


class Post:
    """Sends transactions and keeps the account.

    Parameters
    ----------
    watch : CommitWatch
        Told what is sent and what is refused.
    """

    def __init__(self, watch: CommitWatch) -> None:
        self._watch = watch
        self.refused: Counter[str] = Counter()
        self.refusals: dict[str, str] = {}
        self.sent = 0

    async def send(self, client: Client, wires: Sequence[bytes], ids: Sequence[str]) -> None:
        """Send one batch to one node; what its pool has no room for is offered again.

        So is a batch whose answer did not come: then what the node calls a duplicate had arrived.

        Raises
        ------
        TimedOut
            The pool stays full.
        Unreachable
            The node answers no more.
        """
        self.sent += len(wires)
        self._watch.note_sent(ids)
        left = list(zip(wires, ids, strict=True))
        went_astray = False
        for number in range(TRIES_MAX):
            pause_s = 0.0
            try:
                results = await client.submit_batch([wire for wire, _ in left])
            except Refused as refusal:
                if refusal.status != 503:
                    raise
                await asyncio.sleep(min(refusal.retry_after_s or PAUSE_S, PAUSE_S_MAX))
                continue
            except Unreachable:
                if number == TRIES_MAX - 1:
                    raise
                went_astray = True
                await asyncio.sleep(PAUSE_S)
                continue
            again = []
            for item, result in zip(left, results, strict=True):
                refusal_of = result.refusal
                if refusal_of is None:
                    continue
                if refusal_of.status == 503:
                    again.append(item)
                    pause_s = min(refusal_of.retry_after_s or PAUSE_S, PAUSE_S_MAX)
                elif not (went_astray and refusal_of.code == "duplicate"):
                    self.note_refused(item[1], refusal_of.code)
            if not again:
                return
            left = again
            await asyncio.sleep(pause_s)
        raise TimedOut(f"{client.url} has no room after {TRIES_MAX} tries", "see the node's log")

    def note_refused(self, id: str, code: str) -> None:
        """Account for a refusal."""
        self._watch.note_refused(id)
        self.refused[code] += 1
        self.refusals[id] = code
