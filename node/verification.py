"""Signatures of transactions, verified once, in batches, beside the event loop.

Verifying is most of what a transaction costs, and the only part that runs on several cores at once:
PyNaCl and OpenSSL let go of the interpreter meanwhile. What verified is remembered, so that a block
whose transactions passed admission costs no verification at all.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Final

from chain.admission import expected_key
from chain.state import View
from chain.transactions import Transaction
from chain.types import Digest, PublicKey
from node.ports import Executor

REMEMBERED_MAX: Final = 65_536
"""Verified transactions; the one longest unused is forgotten, and would be verified again."""
PIECE_MAX: Final = 64
"""Signatures that one thread verifies in one go: about three milliseconds."""
TURN: Final = 16
"""Signatures of one caller that go into a batch before it is the next caller's turn."""
THREADS_DEFAULT: Final = 2

Request = tuple[Transaction, PublicKey]


class Verifier:
    """Tells whether keys signed transactions, and remembers the good answers.

    What is asked for while a batch runs, or in the same turn of the event loop, becomes the next
    batch; what several callers ask for at once is verified once. Bad signatures are not remembered:
    anyone can make any number of them.

    Parameters
    ----------
    executor : Executor
        Where batches run.
    threads : int
        Into how many pieces a batch is cut.
    remembered_max : int
        Good answers kept.

    Notes
    -----
    There is no task of its own to start or stop: one of the callers that wait leads the batches,
    and hands over to another when its own answers are there or it is cancelled. Nothing is held
    beyond what the callers hold, and what is remembered.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        threads: int = THREADS_DEFAULT,
        remembered_max: int = REMEMBERED_MAX,
    ) -> None:
        self._executor = executor
        self._threads = threads
        self._remembered_max = remembered_max
        self._verified: OrderedDict[Digest, PublicKey] = OrderedDict()
        self._jobs: dict[tuple[Digest, PublicKey], _Job] = {}
        # Callers with jobs that have not begun, in the order of their turns.
        self._turns: deque[_Call] = deque()
        self._paused: OrderedDict[_Call, None] = OrderedDict()
        self._is_led = False

    @property
    def remembered_count(self) -> int:
        """How many good answers it keeps."""
        return len(self._verified)

    def is_known(self, transaction: Transaction, key: PublicKey) -> bool:
        """Tell whether `transaction` is known to be signed by `key`, without verifying anything."""
        return self._verified.get(transaction.digest) == key

    def unknown(self, transactions: Sequence[Transaction], view: View) -> list[Request]:
        """Return what is not known to verify, with the keys that Algorithm 1 will ask for."""
        requests: list[Request] = []
        for transaction in transactions:
            key = expected_key(transaction, view)
            if key is not None and not self.is_known(transaction, key):
                requests.append((transaction, key))
        return requests

    def check(self, transaction: Transaction, key: PublicKey) -> bool:
        """Tell whether `key` signed `transaction`; verifies here and now what is not known."""
        digest = transaction.digest
        if self._verified.get(digest) == key:
            self._verified.move_to_end(digest)
            return True
        is_good = transaction.is_signed_by(key)
        if is_good:
            self._remember(transaction, key)
        return is_good

    async def verify(self, transaction: Transaction, key: PublicKey) -> bool:
        """Tell whether `key` signed `transaction`, as part of the next batch."""
        (is_good,) = await self.verify_many([(transaction, key)])
        return is_good

    async def verify_many(self, requests: Sequence[Request]) -> list[bool]:
        """Tell of each request whether its key signed its transaction.

        Raises
        ------
        Exception
            What the executor raised; nothing is known then, and asking again is safe.
        """
        call = _Call()
        jobs = [self._join(call, transaction, key) for transaction, key in requests]
        try:
            while call.open_jobs:
                if self._is_led:
                    await self._pause(call)
                else:
                    await self._lead(call)
        finally:
            self._leave(call)
        return [job is None or job.is_good for job in jobs]

    def _join(self, call: "_Call", transaction: Transaction, key: PublicKey) -> "_Job | None":
        if self.is_known(transaction, key):
            self._verified.move_to_end(transaction.digest)
            return None
        name = transaction.digest, key
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = _Job(transaction, key)
            job.calls.append(call)
            call.open_jobs += 1
            self._assign(job)
        elif job.calls[-1] is not call:
            job.calls.append(call)
            call.open_jobs += 1
        return job

    def _assign(self, job: "_Job") -> None:
        """Give a job that has not begun to the first who still waits for it."""
        for call in job.calls:
            if not call.is_gone:
                if not call.jobs:
                    self._turns.append(call)
                call.jobs.append(job)
                return
        del self._jobs[job.transaction.digest, job.key]

    def _leave(self, call: "_Call") -> None:
        call.is_gone = True
        orphans, call.jobs = call.jobs, deque()
        for job in orphans:
            self._assign(job)
        self._wake_next()

    async def _pause(self, call: "_Call") -> None:
        """Wait until the answers are there, or somebody is needed to lead."""
        call.woken = asyncio.get_running_loop().create_future()
        self._paused[call] = None
        try:
            await call.woken
        finally:
            self._paused.pop(call, None)

    def _wake_next(self) -> None:
        if self._turns and self._paused and not self._is_led:
            self._wake(next(iter(self._paused)))

    def _wake(self, call: "_Call") -> None:
        if call in self._paused:
            del self._paused[call]
            if call.woken is not None and not call.woken.done():
                call.woken.set_result(None)

    async def _lead(self, call: "_Call") -> None:
        self._is_led = True
        try:
            # Whoever asks in this turn of the loop comes along.
            await asyncio.sleep(0)
            while call.open_jobs:
                await self._run_batch()
        finally:
            self._is_led = False

    async def _run_batch(self) -> None:
        batch = self._next_batch()
        assert batch, "an open job waits for its turn, or is in the batch that runs"
        piece_size = max(1, -(-len(batch) // self._threads))
        pieces = [batch[at : at + piece_size] for at in range(0, len(batch), piece_size)]
        try:
            if len(pieces) == 1:
                answers = [await self._executor.run(_verify, pieces[0])]
            else:
                async with asyncio.TaskGroup() as group:
                    tasks = [
                        group.create_task(self._executor.run(_verify, piece)) for piece in pieces
                    ]
                answers = [task.result() for task in tasks]
        except BaseException:
            for job in batch:
                self._assign(job)
            raise
        for piece, verified in zip(pieces, answers, strict=True):
            for job, is_good in zip(piece, verified, strict=True):
                self._finish(job, is_good)

    def _next_batch(self) -> list["_Job"]:
        batch: list[_Job] = []
        while self._turns and len(batch) < PIECE_MAX * self._threads:
            call = self._turns.popleft()
            batch.extend(call.jobs.popleft() for _ in range(min(TURN, len(call.jobs))))
            if call.jobs:
                self._turns.append(call)
        return batch

    def _finish(self, job: "_Job", is_good: bool) -> None:
        del self._jobs[job.transaction.digest, job.key]
        job.is_good = is_good
        if is_good:
            self._remember(job.transaction, job.key)
        for call in job.calls:
            call.open_jobs -= 1
            if not call.open_jobs:
                self._wake(call)

    def _remember(self, transaction: Transaction, key: PublicKey) -> None:
        self._verified[transaction.digest] = key
        self._verified.move_to_end(transaction.digest)
        if len(self._verified) > self._remembered_max:
            self._verified.popitem(last=False)


class _Job:
    """One signature to verify, and who waits for it."""

    __slots__ = ("calls", "is_good", "key", "transaction")

    def __init__(self, transaction: Transaction, key: PublicKey) -> None:
        self.transaction = transaction
        self.key = key
        self.calls: list[_Call] = []
        self.is_good = False


class _Call:
    """One caller: how many answers it lacks, and its jobs that have not begun."""

    __slots__ = ("is_gone", "jobs", "open_jobs", "woken")

    def __init__(self) -> None:
        self.jobs: deque[_Job] = deque()
        self.open_jobs = 0
        self.is_gone = False
        self.woken: asyncio.Future[None] | None = None


def _verify(jobs: Sequence[_Job]) -> list[bool]:
    return [job.transaction.is_signed_by(job.key) for job in jobs]
