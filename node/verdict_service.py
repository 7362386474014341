"""A miner's detector: judges the flows of every committed block and puts a verdict on the chain.

It runs beside consensus and never holds it up: blocks are read in the executor, the model runs in
another process, and what cannot be judged in time is late, and counted.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from chain.eligibility import is_active
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.verdict import Verdict, opinion_of, pack_opinions
from chain.parameters import VERDICT_WINDOW
from chain.payloads import Flow
from chain.records.models import MODEL_TABLE
from chain.records.verdicts import JUDGEMENT_TABLE
from chain.state import active_model_at, miner_sets_of
from chain.table import height_key
from chain.types import Address, Digest, Height
from ml_validator.errors import MissingModel, ModelError, RefusedModel
from ml_validator.registration import Registration
from node.damage import report_damage
from node.errors import DamagedEntry
from node.metrics import Metrics
from node.own_transactions import OwnTransactions
from node.ports import Clock, Executor, VerdictSource
from node.storage.chain_store import ChainStore

RESCAN_S: Final = 10.0
"""How often it is looked for blocks whose verdict got lost on the way."""
RETRY_AFTER_NS: Final = 90 * 10**9
"""A verdict that is not on the chain after this time has expired; the block is judged again."""

_KIND: Final = KINDS["verdict"]

log = structlog.get_logger(__name__)


class VerdictService:
    """Judges blocks in the order of their heights.

    Parameters
    ----------
    own : OwnTransactions
        Sends what `miner`, this node, has found.
    on_missing : callable
        Told a model that should judge and is not here.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        executor: Executor,
        source: VerdictSource,
        own: OwnTransactions,
        miner: Address,
        clock: Clock,
        metrics: Metrics,
        on_missing: Callable[[Digest], None],
    ) -> None:
        self._chain = chain
        self._executor = executor
        self._source = source
        self._own = own
        self._miner = miner
        self._clock = clock
        self._metrics = metrics
        self._on_missing = on_missing
        # Heights judged or given up, with the time; at most those of the window are kept.
        self._done: dict[int, int] = {}
        # Heights within the window that were given up for want of a model; each is counted once.
        self._abstained: set[int] = set()
        # Models that are not here, or refused; at most those that have judged within the window.
        self._unusable: set[Digest] = set()
        self._changed = asyncio.Event()
        self._changed.set()

    def on_committed(self) -> None:
        """Look for work after a block."""
        self._changed.set()

    def on_model_ready(self, model: Digest) -> None:
        """Judge again under a model that was not here; blocks within the window are made up for."""
        if model in self._unusable:
            self._unusable.remove(model)
            self._done.clear()
        self._changed.set()

    async def run(self) -> None:
        """Judge until cancelled."""
        while True:
            try:
                async with asyncio.timeout(RESCAN_S):
                    await self._changed.wait()
            except TimeoutError:
                pass
            self._changed.clear()
            while (height := self._next_height()) is not None:
                await self._judge(height)

    def _next_height(self) -> int | None:
        """Return the lowest recent height that lacks this miner's verdict, or None."""
        miners, _ = miner_sets_of(self._chain.state)
        if self._miner not in miners or not is_active(self._chain.state, self._miner):
            # It waits to be voted in, was voted out or is demoted; nobody would take its verdict.
            return None
        newest = self._chain.height
        oldest = max(1, newest + 1 - VERDICT_WINDOW)
        now_ns = self._clock.monotonic_ns()
        for height in [known for known in self._done if known < oldest]:
            del self._done[height]
        self._abstained = {height for height in self._abstained if height >= oldest}
        for height in range(oldest, newest + 1):
            done_ns = self._done.get(height)
            if done_ns is not None and now_ns - done_ns < RETRY_AFTER_NS:
                continue
            if self._chain.tip.recent.flows(height) and not self._is_judged(height):
                return height
            self._done[height] = now_ns
        return None

    def _is_judged(self, height: int) -> bool:
        judgement = self._chain.state.get(JUDGEMENT_TABLE, height_key(height))
        return judgement is not None and self._miner in judgement.miners

    def _is_decided(self, height: int) -> bool:
        judgement = self._chain.state.get(JUDGEMENT_TABLE, height_key(height))
        return judgement is not None and judgement.outcome is not None

    async def _judge(self, height: int) -> None:
        self._done[height] = self._clock.monotonic_ns()
        model = active_model_at(self._chain.state, height)
        assert model is not None, "flows are judged where a model is active"
        record = self._chain.state.get(MODEL_TABLE, model)
        assert record is not None, "an active model is registered"
        if model in self._unusable:
            self._abstain(height)
            return
        try:
            flows = await self._executor.run(_flows, self._chain, height, record.schema)
            if not flows:
                return
            scores = await self._source.judge(Registration.recorded(model, record), flows)
        except DamagedEntry as error:
            report_damage(error, self._metrics)
            self._metrics.verdict_failed()
            return
        except (MissingModel, RefusedModel) as error:
            self._unusable.add(model)
            self._abstain(height)
            log.warning(
                "no verdict under this model", height=height, model=model.hex(), reason=str(error)
            )
            if isinstance(error, MissingModel):
                self._on_missing(model)
            return
        except ModelError as error:
            log.warning("block not judged", height=height, reason=str(error))
            self._metrics.verdict_failed()
            return
        judged = self._chain.tip.recent.judged(height)
        if judged is None or self._chain.height + 1 - height > VERDICT_WINDOW:
            self._metrics.verdict_late()
            return
        if self._is_decided(height):
            self._metrics.verdict_after_decision()
        opinions = [opinion_of(score, record.threshold_ppm) for score in scores]
        self._metrics.verdicts_given(
            anomalous=sum([opinion.reason > 0 for opinion in opinions]), flows=len(opinions)
        )
        body = Verdict(
            height=Height(height), model=model, judged=judged, opinions=pack_opinions(opinions)
        )
        refusal = await self._own.send(_KIND, body)
        if isinstance(refusal, Rejection) and refusal.code == "too_late":
            self._metrics.verdict_late()
        elif refusal is not None:
            log.warning("verdict refused", height=height, reason=str(refusal))

    def _abstain(self, height: int) -> None:
        if height not in self._abstained:
            self._abstained.add(height)
            self._metrics.verdict_abstained()


def _flows(chain: ChainStore, height: int, schema: Digest) -> list[Flow]:
    """Return the judged flows of a block: those of the schema that its model reads; runs aside."""
    block = chain.block(height)
    found: list[Flow] = []
    for transaction in () if block is None else block.transactions:
        kind = KINDS[transaction.payload.kind]
        if kind.metered:
            payload = kind.decode(transaction).payload
            if isinstance(payload, Flow) and payload.schema == schema:
                found.append(payload)
    return found
