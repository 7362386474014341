"""A miner's detector: every block with flows gets one verdict, unless it is too late for one."""

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from chain.blocks import Block
from chain.crypto import SigningKey, address_of
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.miners import MinerPropose, RestoreMiner
from chain.kinds.verdict import unpack_scores
from chain.transactions import Transaction, decode_transaction
from chain.types import Digest
from ml_validator.errors import MissingModel, ModelError
from node import verdict_service
from node.api import Submission
from node.metrics import Metrics
from node.own_transactions import OwnTransactions
from node.ports import Executor, KeyValueStore
from node.storage import schema
from node.storage.chain_store import RECENT_BLOCKS
from node.verdict_service import RESCAN_S, RETRY_AFTER_NS, VerdictService
from tests.builders import MODEL, THRESHOLD_PPM, digest_of, flow, key_of
from tests.simulation.random_source import SeededRandom
from tests.unit.node.fakes import clock_of, simulated
from tests.unit.node.storage.stored_chain import Inline, StoredChain, Worn

KEY = key_of("miner 0")
RETRY_S = RETRY_AFTER_NS / 1e9


class Aside(Inline):
    """An executor that knows whether it is running something."""

    is_running = False

    async def run(self, function: Any, *arguments: Any) -> Any:
        self.is_running = True
        try:
            return await super().run(function, *arguments)
        finally:
            self.is_running = False


class Detector:
    """A verdict service over a chain, a source that the test answers for, and an intake.

    Attributes
    ----------
    given : list of Transaction
        The verdicts handed in.
    judged : list of int
        Flows of each block that was judged.
    missing : list of Digest
        The models that it has told to be missing.
    """

    def __init__(
        self,
        key: SigningKey = KEY,
        *,
        kv: KeyValueStore | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.stored = StoredChain(kv, executor=executor)
        self.chain = self.stored.chain
        self.given: list[Transaction] = []
        self.judged: list[int] = []
        self.missing: list[Digest] = []
        self.failure: Exception | None = None
        self.refusal: Exception | None = None
        self.metrics = Metrics()
        loop: Any = asyncio.get_running_loop()
        self.clock = clock_of(loop, start_ms=self.chain.next_time_ms)
        intake: Any = SimpleNamespace(submit=self.submit)
        self.service = VerdictService(
            chain=self.stored.store,
            executor=self.stored.executor,
            source=self,
            own=OwnTransactions(
                genesis_hash=self.chain.genesis.hash,
                state=self.chain.state,
                intake=intake,
                keys=[key],
                miner=address_of(key.public),
                clock=self.clock,
                random=SeededRandom(1),
            ),
            miner=address_of(key.public),
            clock=self.clock,
            metrics=self.metrics,
            on_missing=self.missing.append,
        )

    async def judge(self, model: Any, flows: Any) -> list[int]:
        assert model.model == MODEL
        self.judged.append(len(flows))
        await asyncio.sleep(0.1)
        if self.failure is not None:
            raise self.failure
        return [THRESHOLD_PPM] * len(flows)

    async def submit(self, wires: Any) -> list[Submission]:
        transactions = [decode_transaction(wire) for wire in wires]
        self.given += transactions
        return [Submission(id=tx.id, error=self.refusal) for tx in transactions]  # type: ignore[arg-type]

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.service.run())
            yield
            task.cancel()

    async def device(self, **fields: Any) -> Any:
        device, registration = self.chain.registration("device", **fields)
        await self.stored.commit(registration)
        return device

    async def commit(self, *transactions: Transaction) -> int:
        """Commit a block, tell the service, and return its height."""
        empty = {} if transactions else {"time_ms": self.chain.tip.header.time_ms + 60_000}
        await self.stored.commit(*transactions, **empty)
        self.service.on_committed()
        return self.stored.store.height

    def heights(self) -> list[int]:
        return [KINDS["verdict"].decode(tx).height for tx in self.given]

    def counted(self, name: str) -> int:
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(f"securenet_{name} "):
                return int(float(line.split()[-1]))
        raise AssertionError(name)


@simulated
async def test_under_a_model_that_is_not_here_it_abstains_and_makes_up_for_it_once_it_is():
    detector = Detector()
    detector.failure = MissingModel(MODEL)
    device = await detector.device()
    async with detector.running():
        heights = [
            await detector.commit(detector.chain.by_device(device, flow())) for _ in range(2)
        ]
        await asyncio.sleep(RETRY_S + RESCAN_S)
        assert detector.given == []
        assert len(detector.judged) == 1, "it does not ask for each block"
        assert detector.missing == [MODEL]
        assert detector.counted("verdicts_failed_total") == 0
        assert detector.counted("verdicts_abstained_total") == 2, "each once, though tried again"

        detector.failure = None
        detector.service.on_model_ready(MODEL)
        await asyncio.sleep(5)

        assert detector.heights() == heights


@simulated
async def test_each_block_with_flows_gets_one_verdict_bound_to_model_and_height():
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        heights = []
        for count in (1, 3):
            heights.append(
                await detector.commit(
                    *[detector.chain.by_device(device, flow()) for _ in range(count)]
                )
            )
            await detector.commit(detector.chain.by_device(device))
            await asyncio.sleep(1)
        await asyncio.sleep(5 * RESCAN_S)

    assert detector.heights() == heights
    assert detector.judged == [1, 3]
    for transaction, count in zip(detector.given, (1, 3), strict=True):
        body = KINDS["verdict"].decode(transaction)
        assert body.model == MODEL
        assert unpack_scores(body.opinions) == [THRESHOLD_PPM] * count
        assert transaction.is_signed_by(KEY.public)
    assert detector.counted('verdicts_total{label="anomalous"}') == 4


@simulated
async def test_a_damaged_block_is_told_and_the_next_is_judged():
    worn = Worn()
    detector = Detector(kv=worn)
    device = await detector.device()
    first = await detector.commit(detector.chain.by_device(device, flow()))
    later = [
        await detector.commit(detector.chain.by_device(device, flow()))
        for _ in range(RECENT_BLOCKS)
    ]
    worn.bad = {schema.BODY + schema.height_bytes(first)}

    async with detector.running():
        await asyncio.sleep(1)

    assert detector.heights() == later
    assert detector.counted("storage_damaged_total") == 1
    assert detector.counted("verdicts_failed_total") == 1


@simulated
async def test_old_blocks_are_read_beside_the_event_loop(monkeypatch):
    aside = Aside()
    detector = Detector(executor=aside)
    device = await detector.device()
    height = await detector.commit(detector.chain.by_device(device, flow()))
    for _ in range(RECENT_BLOCKS):
        await detector.commit()
    read = detector.stored.store.block

    def watched(height: int) -> Block | None:
        assert aside.is_running
        return read(height)

    monkeypatch.setattr(detector.stored.store, "block", watched)
    async with detector.running():
        await asyncio.sleep(1)

    assert detector.heights() == [height]


@simulated
async def test_flows_of_another_schema_are_judged_by_nobody():
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow(schema=digest_of("other"))))
        await asyncio.sleep(RESCAN_S)

    assert detector.judged == []


@simulated
async def test_who_is_no_miner_of_the_height_judges_nothing():
    detector = Detector(key_of("a candidate"))
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(RESCAN_S)

    assert detector.judged == []


@simulated
async def test_blocks_from_before_the_start_are_judged_oldest_first():
    detector = Detector()
    device = await detector.device()
    heights = [await detector.commit(detector.chain.by_device(device, flow())) for _ in range(3)]
    async with detector.running():
        await asyncio.sleep(1)

    assert detector.heights() == heights


@simulated
async def test_a_verdict_on_the_chain_is_not_given_again_even_by_an_earlier_life():
    detector = Detector()
    device = await detector.device()
    height = await detector.commit(detector.chain.by_device(device, flow()))
    await detector.commit(detector.chain.verdict(0, height, [0]))
    async with detector.running():
        await asyncio.sleep(RETRY_S + 2 * RESCAN_S)

    assert detector.judged == []


@simulated
async def test_a_verdict_that_got_lost_is_given_again_after_a_while():
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        height = await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(RETRY_S - RESCAN_S)
        assert detector.heights() == [height]
        # Whatever the wall clock says meanwhile.
        detector.clock.skew_ms = -3_600_000
        await asyncio.sleep(3 * RESCAN_S)

    assert detector.heights() == [height, height]


@simulated
async def test_a_model_that_fails_is_counted_and_tried_again():
    detector = Detector()
    device = await detector.device()
    detector.failure = ModelError("the worker failed")
    async with detector.running():
        height = await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(1)
        assert detector.given == []
        assert detector.counted("verdicts_failed_total") == 1
        detector.failure = None
        await asyncio.sleep(RETRY_S + 2 * RESCAN_S)

    assert detector.heights() == [height]


@simulated
async def test_a_refused_verdict_does_not_end_the_service():
    detector = Detector()
    device = await detector.device()
    detector.refusal = Rejection("not_permitted", "the miner is demoted")
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(1)
        detector.refusal = None
        second = await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(1)

    assert detector.heights()[1:] == [second]


@simulated
async def test_a_demoted_miner_judges_nothing_until_it_is_restored():
    detector = Detector()
    device = await detector.device()
    accused = address_of(KEY.public)
    async with detector.running():
        crime = detector.chain.by_miner(1, "evidence", detector.chain.equivocation(0))
        await detector.commit(crime)
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(2 * RESCAN_S)
        assert detector.given == []
        body = MinerPropose(change=RestoreMiner(miner=accused))
        restoration = detector.chain.by_miner(1, "miner.propose", body)
        votes = [detector.chain.vote(number, restoration) for number in (2, 3)]
        await detector.commit(restoration, *votes)
        await asyncio.sleep(1)

    assert len(detector.given) == 1


@simulated
async def test_a_verdict_that_is_refused_as_too_late_is_counted_as_late():
    detector = Detector()
    detector.refusal = Rejection("too_late", "the block has left the window")
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(1)

    assert len(detector.given) == 1
    assert detector.counted("verdicts_late_total") == 1


@simulated
async def test_a_verdict_behind_the_decision_is_counted_and_sent_all_the_same():
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        height = detector.chain.tip.header.height
        verdicts = [detector.chain.verdict(voter, height, [0]) for voter in (1, 2, 3)]
        await detector.commit(*verdicts)
        await asyncio.sleep(1)

    assert len(detector.given) == 1
    assert detector.counted("verdicts_after_decision_total") == 1
    assert detector.counted("verdicts_late_total") == 0


@simulated
async def test_a_block_that_has_left_the_window_meanwhile_is_late_and_not_judged_again(monkeypatch):
    monkeypatch.setattr(verdict_service, "VERDICT_WINDOW", 3)
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(0.05)
        for _ in range(4):
            await detector.commit()
        await asyncio.sleep(RETRY_S + 2 * RESCAN_S)

    assert detector.judged == [1]
    assert detector.given == []
    assert detector.counted("verdicts_late_total") == 1
    assert len(detector.service._done) <= 3


@simulated
async def test_every_verdict_has_a_nonce_of_its_own():
    detector = Detector()
    device = await detector.device()
    async with detector.running():
        await detector.commit(detector.chain.by_device(device, flow()))
        await asyncio.sleep(3 * (RETRY_S + RESCAN_S))

    assert len({transaction.id for transaction in detector.given}) == len(detector.given) >= 3
