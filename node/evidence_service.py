"""Puts the evidence that consensus finds on the chain, where it demotes the miner.

Every node that has met both statements reports them; the chain takes the first report and refuses
the others as it refuses anything that has happened already. What was found is stored before it is
reported, and kept until the chain has settled it: the node may be the only one that has met both.
"""

import asyncio
from typing import Final

import structlog

from chain.eligibility import is_active
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.evidence import Equivocation
from chain.records.miners import MINER_TABLE
from chain.state import parameters_of
from chain.types import Address
from consensus.evidence import Evidence
from node.errors import MempoolFull, NotSigned
from node.own_transactions import OwnTransactions
from node.ports import Clock
from node.storage.chain_store import ChainStore

RESCAN_S: Final = 10.0
"""How often it is looked for reports that have to be sent again."""
MARGIN_MS: Final = 5_000
"""A report is sent again so long after the last has expired."""

_PASSING: Final = ("limit_reached", "expired", "too_early")
"""Refusals that say nothing of the evidence: others have to be restored first, this node's clock is
behind the chain's time, or the chain was taken back below the height at which it was found."""
_KIND: Final = KINDS["evidence"]
_NS_PER_MS: Final = 1_000_000

log = structlog.get_logger(__name__)


class EvidenceService:
    """Reports contradictions of miners until they are on the chain, or nobody takes them any more.

    Of each miner one contradiction is kept, the first: one is enough. So there are no more of them
    than members.

    Parameters
    ----------
    miner : Address
        This node; only an active miner reports.
    """

    def __init__(
        self, *, chain: ChainStore, own: OwnTransactions, miner: Address, clock: Clock
    ) -> None:
        self._chain = chain
        self._own = own
        self._miner = miner
        self._clock = clock
        self._open = {body.miner: body for body in chain.open_evidence()}
        self._due_ns: dict[Address, int] = dict.fromkeys(self._open, clock.monotonic_ns())
        self._unstored: set[Address] = set()
        self._found = asyncio.Event()

    def report(self, evidence: Evidence) -> None:
        """Take what consensus has found."""
        state = self._chain.state
        accused = state.get(MINER_TABLE, evidence.miner)
        # A demoted miner that goes on lying would have each of its lies refused.
        if accused is None or accused.status == "demoted" or not is_active(state, self._miner):
            return
        if evidence.miner not in self._open:
            self._open[evidence.miner] = Equivocation(
                miner=evidence.miner,
                first=evidence.first,
                first_signature=evidence.first_signature,
                second=evidence.second,
                second_signature=evidence.second_signature,
            )
            self._unstored.add(evidence.miner)
            self._due_ns[evidence.miner] = self._clock.monotonic_ns()
            self._found.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            try:
                async with asyncio.timeout(RESCAN_S):
                    await self._found.wait()
            except TimeoutError:
                pass
            self._found.clear()
            now_ns = self._clock.monotonic_ns()
            for accused in [id for id, due_ns in self._due_ns.items() if due_ns <= now_ns]:
                if accused in self._unstored:
                    await self._chain.store_evidence(self._open[accused])
                    self._unstored.discard(accused)
                await self._send(self._open[accused])

    async def _send(self, body: Equivocation) -> None:
        error = await self._own.send(_KIND, body)
        if error is None or _may_pass(error):
            # That it is pooled says nothing; once it is on the chain the next report is refused.
            lifetime_ms = parameters_of(self._chain.state).transaction_lifetime_ms
            wait_ns = (lifetime_ms + MARGIN_MS) * _NS_PER_MS
            self._due_ns[body.miner] = self._clock.monotonic_ns() + wait_ns
            log.info("evidence reported", accused=body.miner.hex(), refusal=_text_of(error))
        else:
            await self._chain.forget_evidence(body.miner)
            del self._open[body.miner], self._due_ns[body.miner]
            log.info("evidence settled", accused=body.miner.hex(), reason=_text_of(error))


def _may_pass(error: Exception) -> bool:
    """Tell whether the refusal is of the moment."""
    if isinstance(error, Rejection):
        return error.code in _PASSING
    return isinstance(error, MempoolFull | NotSigned)


def _text_of(error: Exception | None) -> str | None:
    return None if error is None else str(error)
