"""What is under way for the present height: building, checking and fetching blocks.

The replica asks, a task works, and its answer goes to the driver's inbox. When the height is
decided, all of it is dropped. A task is never awaited by the driver, so that a block which nobody
can complete holds up nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import structlog

from chain.blocks import transaction_root
from chain.errors import InvalidBlock
from chain.types import Address, Digest
from consensus.errors import SafetyViolation
from consensus.events import BlockBuilt, BlockFetched, Event, ProposalChecked
from consensus.messages import Proposal
from consensus.output import BuildBlock, CheckProposal, Committed, FetchBlock
from consensus.replica import Replica
from node.block_maker import BlockMaker
from node.block_sync import LIE_POINTS
from node.members import Members
from node.metrics import Metrics
from node.ports import Transport
from node.protocol import GET_PROPOSAL, GetProposal, encode_body
from node.storage.chain_store import ChainStore

FETCH_RETRY_S: Final = 0.5
"""How long one holder of a block is waited for before the next is asked."""

log = structlog.get_logger(__name__)

Answer = Event | Committed
_Work = tuple[Literal["build", "check", "fetch", "recover"], Digest | None]


@dataclass(slots=True)
class _Question:
    """A block asked for by its hash: who owes an answer, and where the right one goes."""

    answer: asyncio.Future[Proposal]
    asked: set[Address] = field(default_factory=set)


class HeightWork:
    """The tasks of one height after another.

    Parameters
    ----------
    answer : callable
        Takes what a task has brought about; called from the event loop.

    Notes
    -----
    Bounded by what the replica asks for: one build, and a check or a fetch for each block that it
    holds or has to have.
    """

    def __init__(
        self,
        *,
        replica: Replica,
        chain: ChainStore,
        maker: BlockMaker,
        members: Members,
        transport: Transport,
        metrics: Metrics,
        answer: Callable[[Answer], None],
    ) -> None:
        self._replica = replica
        self._chain = chain
        self._maker = maker
        self._members = members
        self._transport = transport
        self._metrics = metrics
        self._answer = answer
        self._tasks: dict[_Work, asyncio.Task[None]] = {}
        # Blocks that a quorum has committed: nothing makes their checks idle.
        self._decided: set[Digest] = set()
        self._questions: dict[Digest, _Question] = {}
        self._more_work = asyncio.Event()

    def build(self, request: BuildBlock, group: asyncio.TaskGroup) -> None:
        """Build a block; one that is being built for an earlier round is given up."""
        running = self._tasks.get(("build", None))
        if running is not None:
            running.cancel()
        self._spawn(("build", None), self._build(request), group)

    def check(self, request: CheckProposal, group: asyncio.TaskGroup) -> None:
        """Check a block; checks of others, unless they are decided, have become idle."""
        digest = request.proposal.digest
        if request.committed:
            self._decided.add(digest)
        else:
            for (what, other), task in self._tasks.items():
                if what == "check" and other != digest and other not in self._decided:
                    task.cancel()
        self._spawn(("check", digest), self._check(request), group)

    def fetch(self, request: FetchBlock, group: asyncio.TaskGroup) -> None:
        """Ask the holders of a block for its header and digests."""
        self._spawn(("fetch", request.digest), self._fetch(request), group)

    def recover(self, committed: Committed, group: asyncio.TaskGroup) -> None:
        """Get a decided block again that was attested here, but is held no more."""
        self._spawn(("recover", committed.proposal.digest), self._recover(committed), group)

    def on_work(self) -> None:
        """Let a build that found nothing look again."""
        self._more_work.set()

    def on_proposal(self, peer: Address, proposal: Proposal) -> None:
        """Take the answer of a peer that was asked for a block by its hash."""
        question = self._questions.get(proposal.digest)
        if question is None or question.answer.done() or peer not in question.asked:
            self._metrics.peer_refused("unasked")
            return
        question.asked.discard(peer)
        if transaction_root(proposal.digests) != proposal.header.transaction_root:
            self._transport.penalise(peer, LIE_POINTS, "digests that are not the block's")
            return
        question.answer.set_result(proposal)

    def drop(self) -> None:
        """Give up everything: the height is decided."""
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._decided.clear()

    def _spawn(
        self, work: _Work, course: Coroutine[Any, Any, None], group: asyncio.TaskGroup
    ) -> None:
        """Begin, unless the same is under way."""
        running = self._tasks.get(work)
        # One that was cancelled a moment ago may still be on its way out.
        if running is not None and not running.done() and not running.cancelling():
            course.close()
            return
        self._tasks = {known: task for known, task in self._tasks.items() if not task.done()}
        self._tasks[work] = group.create_task(course)

    async def _build(self, request: BuildBlock) -> None:
        """Build as soon as there is anything to build of."""
        while True:
            self._more_work.clear()
            proposal = await self._maker.build(round=request.round, limit_shift=request.limit_shift)
            if proposal is not None:
                break
            await self._more_work.wait()
        self._answer(BlockBuilt(height=request.height, round=request.round, proposal=proposal))

    async def _check(self, request: CheckProposal) -> None:
        digest = request.proposal.digest
        reason = ""
        try:
            await self._maker.check(request.proposal, self._holders(digest, request.holders))
        except InvalidBlock as error:
            reason = f"{error.code}: {error}"
            log.warning("proposal refused", height=request.height, code=error.code, reason=reason)
            self._metrics.peer_refused("bad_proposal")
        if self._chain.height < request.height:
            self._answer(
                ProposalChecked(
                    height=request.height, digest=digest, valid=not reason, reason=reason
                )
            )

    async def _fetch(self, request: FetchBlock) -> None:
        """Ask the holders in turn for the header and digests of a block."""
        digest = request.digest
        holders = self._holders(digest, request.holders)
        proposal = self._maker.proposal(digest)
        question = _Question(asyncio.get_running_loop().create_future())
        self._questions[digest] = question
        turn = 0
        try:
            while proposal is None:
                nodes = holders()
                if nodes:
                    node = nodes[turn % len(nodes)]
                    question.asked.add(node)
                    body = encode_body(GET_PROPOSAL, GetProposal(block=digest))
                    self._transport.send(node, GET_PROPOSAL, body)
                    turn += 1
                done, _ = await asyncio.wait([question.answer], timeout=FETCH_RETRY_S)
                if done:
                    proposal = question.answer.result()
        finally:
            self._questions.pop(digest, None)
        self._answer(BlockFetched(height=request.height, proposal=proposal))

    async def _recover(self, committed: Committed) -> None:
        """Fetch and check a block that a quorum has committed, then let it be committed here.

        The log remembers that it was attested, the store does not hold it: that had lost its end,
        or is an older copy. docs/spec/durability.md, section 6.
        """
        digest = committed.proposal.digest
        log.warning("an attested block is fetched again", height=committed.height)
        try:
            await self._maker.check(committed.proposal, self._holders(digest, ()))
        except InvalidBlock as error:
            raise SafetyViolation(
                f"a quorum committed an invalid block at {committed.height}: {error}"
            ) from error
        self._answer(committed)

    def _holders(self, digest: Digest, known: Sequence[Address]) -> Callable[[], Sequence[Address]]:
        """Return a function that says whom to ask, best first; votes bring more of them."""
        return lambda: self._members.nodes_of(
            dict.fromkeys((*known, *self._replica.holders(digest)))
        )
