"""The models that the chain names, brought to where they judge.

Which models there are, the state says: those that judge or are to judge are fetched and loaded by
the detector ahead of their height; all others are fetched too, so that no model has one holder
only. What does not arrive is asked for again; what is no model, or not the one registered, never
judges. Meanwhile the miner abstains: no block depends on that, only who judges.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

import structlog

from chain.blocks import Block
from chain.kinds import KINDS
from chain.kinds.models import ACTIVATE, REGISTER, ModelActivate
from chain.records.models import ACTIVE_MODELS, MODEL_TABLE
from chain.records.proposals import OPEN_PROPOSALS, PROPOSAL_TABLE
from chain.state import View
from chain.types import Digest
from ml_validator.errors import MissingModel, ModelError, RefusedModel
from ml_validator.registration import Registration
from node.api import ModelStanding, ModelState
from node.blobs.fetcher import BlobFetcher
from node.blobs.store import BlobStore
from node.errors import LargerBlob, StorageError
from node.metrics import Metrics
from node.ports import Executor, VerdictSource
from node.storage.chain_store import ChainStore

MANIFEST_SIZE_MAX: Final = 64 * 1024
"""Larger manifests no tool reads, and nobody keeps for them."""
RETRY_S: Final = 5.0
"""How often a model that judges is asked for again."""
RETRY_S_MAX: Final = 640.0
"""How often the rest is, after pauses that double: what nobody has brought may never come."""
SWEEP_S: Final = 600.0
"""How often blobs are looked through that the chain does not name."""
FETCHED_SIZE_MAX: Final = 4 * 1024 * 1024
"""Larger artefacts are no models (`ml_validator.artifact`), and are not taken."""

_PART: Final = "models"
_KINDS: Final = frozenset({REGISTER.name, ACTIVATE.name, "miner.vote"})
"""The kinds of transaction by which other models may judge, or be named."""

log = structlog.get_logger(__name__)


class ModelService:
    """Keeps the models of the chain at hand.

    Parameters
    ----------
    source : VerdictSource or None
        None: this node does not judge, and fetches nothing.
    on_ready : callable
        Told a model that can judge from now on.
    """

    def __init__(
        self,
        *,
        chain: ChainStore,
        blobs: BlobStore,
        fetcher: BlobFetcher,
        executor: Executor,
        source: VerdictSource | None,
        on_ready: Callable[[Digest], None],
        metrics: Metrics,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._fetcher = fetcher
        self._executor = executor
        self._source = source
        self._on_ready = on_ready
        # Of the models that judge, or may; those of which nothing is known yet are not there.
        self._standings: dict[Digest, ModelStanding] = {}
        for state in ("missing", "refused"):
            metrics.watch(
                f"models_{state}",
                f"Models that judge, or may, and are {state} at this miner",
                partial(self._count, state),
            )
        self._changed = asyncio.Event()
        self._changed.set()
        self._others_changed = asyncio.Event()
        # Models that are being brought; at most those that judge, or may.
        self._under_way: set[Digest] = set()
        # What organisations have brought; genesis names what came with the package.
        self._published: dict[Digest, int] = {}
        self._named: dict[Digest, int] = {}
        for key, record in chain.state.scan(MODEL_TABLE):
            _name(self._named, Digest(key), record.size_bytes, record.manifest)
            if record.organisation is not None:
                _name(self._published, Digest(key), record.size_bytes, record.manifest)
        self._blobs.name(_PART, self._named)

    @property
    def standings(self) -> Mapping[Digest, ModelStanding]:
        """How the models that judge, or may, stand at this node; none where it does not judge."""
        return self._standings

    def on_committed(self, block: Block) -> None:
        """Look again if a block has registered, proposed or activated a model."""
        kinds = {transaction.payload.kind for transaction in block.transactions}
        if not kinds & _KINDS:
            return
        for transaction in block.transactions:
            if transaction.payload.kind == REGISTER.name:
                body = REGISTER.decode(transaction)
                _name(self._published, body.model, body.size_bytes, body.manifest)
                _name(self._named, body.model, body.size_bytes, body.manifest)
        self._blobs.name(_PART, self._named)
        # In this order: what may judge is under way before the others are looked through.
        self._changed.set()
        self._others_changed.set()

    def on_missing(self, model: Digest) -> None:
        """Bring a model again that could judge and is gone: damaged, and no worker has it."""
        if self._state(model) == "ready":
            self._note(model, "missing", "it was here, and cannot be read any more")
            self._changed.set()

    async def run(self) -> None:
        """Fetch and load until cancelled, and sweep what nobody names."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep())
            if self._source is not None:
                # Apart: whoever publishes much, or sends it slowly, delays no model that judges.
                group.create_task(self._follow(self._source))
                group.create_task(self._follow_others())

    async def _follow(self, source: VerdictSource) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                wanted = judging_models(self._chain.state)
                self._standings = {
                    model: standing
                    for model, standing in self._standings.items()
                    if model in wanted
                }
                for model in wanted:
                    if model not in self._under_way and not self._is_settled(model):
                        self._under_way.add(model)
                        group.create_task(self._bring_in_time(model, source))
                await self._changed.wait()

    async def _bring_in_time(self, model: Digest, source: VerdictSource) -> None:
        """Bring one model, whatever becomes of others, for as long as it judges, or may."""
        try:
            while not await self._bring(model, source):
                await asyncio.sleep(RETRY_S)
                if model not in judging_models(self._chain.state):
                    return
        finally:
            self._under_way.discard(model)

    async def _follow_others(self) -> None:
        pause_s = RETRY_S
        while True:
            self._others_changed.clear()
            is_complete = await self._keep_others()
            try:
                async with asyncio.timeout(None if is_complete else pause_s):
                    await self._others_changed.wait()
                pause_s = RETRY_S
            except TimeoutError:
                pause_s = min(2 * pause_s, RETRY_S_MAX)

    async def _keep_others(self) -> bool:
        """Fetch whatever else is published; return whether all of it is here."""
        is_complete = True
        for digest, size in tuple(self._published.items()):
            if digest in self._under_way:
                # It is fetched already, and who fetches it is not to find that under way.
                is_complete = False
                continue
            try:
                is_complete &= await self._fetcher.bring(digest, size_max=size)
            except LargerBlob:
                # It is not what was registered, and nobody is to judge by it.
                del self._published[digest]
        return is_complete

    async def _bring(self, model: Digest, source: VerdictSource) -> bool:
        """Make sure that a model can judge; return whether it can, or never will."""
        record = self._chain.state.get(MODEL_TABLE, model)
        assert record is not None, "what judges, or may, is registered"
        registered = Registration.recorded(model, record)
        try:
            try:
                await source.judge(registered, ())
            except MissingModel:
                size_max = min(record.size_bytes, FETCHED_SIZE_MAX)
                if not await self._fetcher.bring(model, size_max=size_max):
                    self._note(model, "missing", "nobody has sent it yet")
                    return False
                await source.judge(registered, ())
        except (RefusedModel, LargerBlob) as error:
            self._note(model, "refused", str(error))
            return True
        except ModelError as error:
            self._note(model, "missing", str(error))
            return False
        self._note(model, "ready", None)
        self._on_ready(model)
        return True

    def _note(self, model: Digest, state: ModelState, reason: str | None) -> None:
        """Keep how a model stands here, and tell the operator when that changes."""
        if self._state(model) != state:
            if state == "ready":
                log.info("model ready", model=model.hex())
            else:
                log.warning(
                    "a model that judges, or may, cannot be used; this miner abstains under it",
                    model=model.hex(),
                    state=state,
                    reason=reason,
                )
        self._standings[model] = ModelStanding(state=state, reason=reason)

    def _is_settled(self, model: Digest) -> bool:
        """Tell whether a model can judge, or never will."""
        return self._state(model) in ("ready", "refused")

    def _state(self, model: Digest) -> ModelState | None:
        standing = self._standings.get(model)
        return None if standing is None else standing.state

    def _count(self, state: str) -> int:
        return sum([standing.state == state for standing in self._standings.values()])

    async def _sweep(self) -> None:
        while True:
            try:
                removed = await self._executor.run(self._blobs.sweep)
            except StorageError as error:
                log.warning("blobs could not be swept", reason=str(error))
            else:
                if removed:
                    log.info("blobs removed that nobody names", count=removed)
            await asyncio.sleep(SWEEP_S)


def judging_models(view: View) -> tuple[Digest, ...]:
    """Return the models that judge, are to judge, or are proposed to; the latest first."""
    history = view.get(ACTIVE_MODELS)
    activations = () if history is None else history.activations
    found = [entry.model for entry in reversed(activations)]
    return tuple(dict.fromkeys([*found, *_proposed(view)]))


def _name(named: dict[Digest, int], model: Digest, size: int, manifest: Digest) -> None:
    """Add what a registration names, with the size that each may have at most."""
    # Somebody may have registered either as what it is not, tiny or huge: that keeps neither out.
    for digest, size_max in ((model, size), (manifest, MANIFEST_SIZE_MAX)):
        named[digest] = min(FETCHED_SIZE_MAX, max(size_max, named.get(digest, 0)))


def _proposed(view: View) -> Iterator[Digest]:
    open_now = view.get(OPEN_PROPOSALS)
    for id in () if open_now is None else open_now.ids:
        proposal = view.get(PROPOSAL_TABLE, id)
        assert proposal is not None, "an open proposal is there"
        body = KINDS[proposal.kind].decode_bytes(proposal.body)
        if isinstance(body, ModelActivate):
            yield body.model
