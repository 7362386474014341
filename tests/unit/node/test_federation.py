"""A node in federated rounds: what it keeps of them, what it sends, and what it sends again."""

import asyncio
from contextlib import asynccontextmanager, suppress
from types import SimpleNamespace
from typing import Any

from chain.blobs import blob_digest
from chain.crypto import SigningKey, address_of
from chain.errors import Rejection
from chain.kinds.rounds import AGGREGATE, ATTEST
from chain.transactions import Transaction, decode_transaction
from chain.types import Digest
from ml_validator.artifact import ARTIFACT_SIZE_MAX
from ml_validator.bundled import LINEAR_NAME, bundled_model
from node import federation
from node.api import Submission
from node.blobs.store import BlobLimits
from node.errors import StorageFailed
from node.federation import Federation as Service
from node.metrics import Metrics
from node.own_transactions import OwnTransactions
from node.round_work import RESEND_NS
from tests.builders import Device, digest_of, key_of
from tests.federation import Federation
from tests.learners import Learner, expected, root_of
from tests.simulation.random_source import SeededRandom
from tests.unit.node.blobs.stored import blob_store, put
from tests.unit.node.fakes import clock_of, simulated
from tests.unit.node.storage.stored_chain import PATH, StoredChain

COUNT = 4
SHORT_S = 10.0
"""Long enough for a pass, and too short to send anything again."""


class Participation:
    """A node's service over a chain on which a round in the audit mode is played.

    Attributes
    ----------
    given : list of Transaction
        What the node has handed in.
    elsewhere : dict of Digest to bytes
        Blobs that peers have.
    asked : list of Digest
        Blobs for which peers were asked.
    hanging : set of Digest
        Blobs which a peer begins to send and does not end.
    """

    def __init__(self, key: SigningKey | None = None, **terms: Any) -> None:
        self.stored = StoredChain()
        self.chain = self.stored.chain
        self._record_certificates()
        fields = {"group_size": 1, "groups_min": 1, "parameter_count": 3, **terms}
        self.round = Federation(self.chain, count=COUNT, **fields)
        self.learners = [Learner(device.id) for device in self.round.devices]
        self.store = blob_store(limits=BlobLimits(store_size_max=100_000))
        self.key = key or key_of("miner 0")
        self.given: list[Transaction] = []
        self.elsewhere: dict[Digest, bytes] = {}
        self.asked: list[Digest] = []
        self.hanging: set[Digest] = set()
        self.refusal: Exception | None = None
        self.start()

    def start(self) -> None:
        """Build the service on what the disks hold."""
        self.metrics = Metrics()
        loop: Any = asyncio.get_running_loop()
        self.clock = clock_of(loop, start_ms=self.chain.next_time_ms)
        intake: Any = SimpleNamespace(submit=self.submit)
        fetcher: Any = SimpleNamespace(fetch=self.fetch)
        self.service = Service(
            chain=self.stored.store,
            blobs=self.store,
            fetcher=fetcher,
            executor=self.stored.executor,
            own=OwnTransactions(
                genesis_hash=self.chain.genesis.hash,
                state=self.stored.store.state,
                intake=intake,
                keys=[self.key],
                miner=address_of(self.key.public),
                clock=self.clock,
                random=SeededRandom(1),
            ),
            miner=address_of(self.key.public),
            clock=self.clock,
            metrics=self.metrics,
        )

    async def submit(self, wires: Any) -> list[Submission]:
        transactions = [decode_transaction(wire) for wire in wires]
        self.given += transactions
        return [Submission(id=tx.id, error=self.refusal) for tx in transactions]  # type: ignore[arg-type]

    async def fetch(
        self, digest: Digest, *, size_max: int, patience_s: float | None = None
    ) -> bool:
        if self.store.find(digest) is not None:
            return True
        self.asked.append(digest)
        if digest in self.hanging:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await asyncio.Event().wait()
            return False
        data = self.elsewhere.get(digest)
        if data is None or len(data) > size_max:
            return False
        put(self.store, data)
        return True

    @asynccontextmanager
    async def running(self):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.service.run())
            yield
            task.cancel()

    async def tell(self, *transactions: Transaction) -> None:
        """Commit what the chain in memory has, and these in a block more."""
        if transactions:
            time_ms = max(self.chain.next_time_ms, self.clock.wall_ms())
            self.chain.commit(*transactions, time_ms=time_ms)
        await self.stored.catch_up()
        self.service.on_committed()

    async def committed(self) -> None:
        """Play the round until all updates are committed to."""
        self.round.play_to("commit")
        self.chain.commit(
            *[
                self.round.commit(device, root=root_of(self.blob(device)))
                for device in self.round.devices
            ]
        )
        await self.tell()
        assert self.round.record.phase == "attest"

    async def attested(self) -> None:
        """Let two other miners attest everything, which closes the phase."""
        await self.tell(self.round.attest(1), self.round.attest(2))
        assert self.round.record.phase == "aggregate"

    def blob(self, device: Device) -> bytes:
        learner = next(learner for learner in self.learners if learner.id == device.id)
        return learner.blob(self.round.id, self.round.record)

    def everywhere(self, *places: int) -> None:
        """Let peers have the updates at these places."""
        for place in places:
            data = self.blob(self.round.devices[place])
            self.elsewhere[blob_digest(data)] = data

    def sent(self, kind: Any) -> list[Any]:
        return [kind.decode(tx) for tx in self.given if tx.payload.kind == kind.name]

    def expected(self) -> Digest:
        return expected(self.round.record, self.learners)

    def counted(self, name: str) -> int:
        for line in self.metrics.render().decode().splitlines():
            if line.startswith(f"securenet_{name} "):
                return int(float(line.split()[-1]))
        raise AssertionError(name)

    def _record_certificates(self) -> None:
        """Keep a certificate of each block that the helpers commit to the chain in memory."""
        commit = self.chain.commit

        def recorded(*transactions: Transaction, **fields: Any) -> Any:
            miners = self.chain.miners
            execution = commit(*transactions, **fields)
            self.stored.certificates.append(self.chain.certificate(execution.header, miners))
            return execution

        self.chain.commit = recorded  # type: ignore[method-assign]


@simulated
async def test_updates_are_attested_as_they_come_and_said_once():
    node = Participation()
    await node.committed()
    node.everywhere(0, 2)

    async with node.running():
        await asyncio.sleep(SHORT_S)
        assert [body.held for body in node.sent(ATTEST)] == [b"\x05"]
        assert node.counted("rounds_updates_missing") == 2
        node.everywhere(1, 3)
        await asyncio.sleep(SHORT_S)
        assert [body.held for body in node.sent(ATTEST)] == [b"\x05", b"\x0f"]
        assert node.counted("rounds_updates_missing") == 0
        await node.tell(node.given[-1])
        await asyncio.sleep(3 * RESEND_NS / 1e9)

    assert len(node.sent(ATTEST)) == 2
    assert node.counted('rounds_updates_total{label="sound"}') == COUNT


@simulated
async def test_what_got_lost_on_the_way_is_sent_again():
    node = Participation()
    await node.committed()
    node.everywhere(*range(COUNT))
    node.refusal = Rejection("too_early", "not yet")

    async with node.running():
        await asyncio.sleep(RESEND_NS / 1e9 + SHORT_S)
        assert [body.held for body in node.sent(ATTEST)] == [b"\x0f"] * 2
        node.refusal = None
        await node.attested()
        await asyncio.sleep(RESEND_NS / 1e9 + SHORT_S)

    roots = [body.root for body in node.sent(AGGREGATE)]
    assert len(roots) == 2
    assert {node.round.terms.blob_of(root) for root in roots} == {node.expected()}


@simulated
async def test_a_miner_without_an_included_update_abstains_until_it_has_it():
    node = Participation()
    await node.committed()
    await node.attested()
    node.everywhere(0, 1, 2)

    async with node.running():
        await asyncio.sleep(SHORT_S)
        assert node.sent(AGGREGATE) == []
        node.everywhere(3)
        await asyncio.sleep(SHORT_S)

    (said,) = node.sent(AGGREGATE)
    assert node.round.terms.blob_of(said.root) == node.expected()
    assert node.store.find(node.expected()) is not None


@simulated
async def test_an_answer_that_never_comes_costs_an_included_update_a_moment():
    node = Participation()
    await node.committed()
    await node.attested()
    node.everywhere(*range(COUNT))
    node.hanging.add(next(iter(node.elsewhere)))

    async with node.running():
        await asyncio.sleep(SHORT_S)
        assert set(node.asked) >= set(node.elsewhere)
        node.hanging.clear()
        await asyncio.sleep(SHORT_S)

    assert len(node.sent(AGGREGATE)) == 1


@simulated
async def test_what_others_have_attested_is_fetched_while_shares_are_revealed():
    node = Participation(group_size=COUNT)
    await node.committed()
    await node.tell(node.round.attest(1), node.round.attest(2))
    assert node.round.record.phase == "reveal"
    node.everywhere(*range(COUNT))

    async with node.running():
        await asyncio.sleep(SHORT_S)

    assert [digest for digest in node.elsewhere if node.store.find(digest) is None] == []


@simulated
async def test_an_update_that_is_lost_between_two_looks_is_fetched_again():
    node = Participation()
    await node.committed()
    node.everywhere(*range(COUNT))
    fetch, lost = node.fetch, list(node.elsewhere)

    async def losing(digest: Digest, *, size_max: int, patience_s: float | None = None) -> bool:
        # It was here, and is not when it is read.
        if digest in lost:
            lost.remove(digest)
            return True
        return await fetch(digest, size_max=size_max, patience_s=patience_s)

    node.service._bench.fetcher.fetch = losing  # type: ignore[method-assign]
    async with node.running():
        await asyncio.sleep(SHORT_S)

    assert lost == []
    assert node.sent(ATTEST)[-1].held == b"\x0f"


@simulated
async def test_a_restarted_miner_says_the_same_and_no_more_once_it_is_on_the_chain():
    node = Participation()
    await node.committed()
    await node.attested()
    node.everywhere(*range(COUNT))
    async with node.running():
        await asyncio.sleep(SHORT_S)

    node.start()
    async with node.running():
        await asyncio.sleep(SHORT_S)
    first, second = node.sent(AGGREGATE)
    assert first == second
    await node.tell(node.given[-1])

    node.start()
    async with node.running():
        await asyncio.sleep(SHORT_S)
    assert len(node.sent(AGGREGATE)) == 2


@simulated
async def test_a_node_that_is_no_miner_sends_nothing_and_asks_for_no_updates():
    node = Participation(key_of("an observer"))
    await node.committed()
    node.everywhere(*range(COUNT))

    async with node.running():
        await asyncio.sleep(SHORT_S)

    assert node.given == []
    assert set(node.asked) == {node.round.record.terms.base}
    # But it takes them in from whoever brings them.
    assert set(node.elsewhere) <= set(node.store.named)


@simulated
async def test_who_cannot_keep_the_aggregate_does_not_vouch_for_it(monkeypatch):
    node = Participation()
    await node.committed()
    await node.attested()
    for device in node.round.devices:
        put(node.store, node.blob(device))
    finish = node.store.finish

    def fail(*arguments: Any) -> None:
        raise StorageFailed(PATH, "the disk fails")

    monkeypatch.setattr(node.store, "finish", fail)
    async with node.running():
        await asyncio.sleep(SHORT_S)
        assert node.sent(AGGREGATE) == []
        monkeypatch.setattr(node.store, "finish", finish)
        await asyncio.sleep(SHORT_S)

    assert len(node.sent(AGGREGATE)) == 1


@simulated
async def test_every_node_fetches_what_a_finished_round_has_come_to():
    node = Participation(key_of("an observer"))
    await node.committed()
    await node.attested()
    data = b"the aggregate of it all."
    root = root_of(data)
    await node.tell(*[node.round.aggregate(miner, root=root) for miner in range(3)])
    assert node.round.record.phase == "finished"

    async with node.running():
        await asyncio.sleep(SHORT_S)
        assert node.store.find(blob_digest(data)) is None
        node.elsewhere[blob_digest(data)] = data
        await asyncio.sleep(SHORT_S)

    assert node.store.read_whole(blob_digest(data), size_max=100) == data


@simulated
async def test_every_node_fetches_what_an_open_round_starts_from_and_then_lets_it_lie():
    data = b"a linear model that only its maker has"
    node = Participation(key_of("an observer"), base=blob_digest(data))
    node.round.play_to("join")
    await node.tell()

    async with node.running():
        await asyncio.sleep(SHORT_S)
        node.elsewhere[blob_digest(data)] = data
        await asyncio.sleep(SHORT_S)
        assert node.store.read_whole(blob_digest(data), size_max=100) == data
        assert blob_digest(data) in node.store.named
        await node.tell(node.round.abort())
        await asyncio.sleep(SHORT_S)

    assert node.store.named == {}
    # Who opens a round and ends it takes nothing from others.
    assert node.store.find(blob_digest(data)) is not None


@simulated
async def test_a_base_that_nobody_has_is_asked_for_in_pauses_whatever_happens():
    node = Participation(base=blob_digest(b"of nobody"))
    node.round.play_to("join")
    await node.tell()

    async with node.running():
        for device in node.round.devices[:-1]:
            await node.tell(node.round.join(device))
            await asyncio.sleep(1.0)

    assert node.asked == [blob_digest(b"of nobody")]


@simulated
async def test_an_update_that_nobody_has_is_looked_for_until_its_phase_is_over_and_no_longer():
    node = Participation()
    await node.committed()
    node.everywhere(*range(COUNT))
    node.hanging.add(blob_digest(node.blob(node.round.devices[0])))
    others = node.round.devices[1:]

    async with node.running():
        await asyncio.sleep(SHORT_S)
        await node.tell(node.round.attest(1, others), node.round.attest(2, others))
        node.round.wait()
        await node.tell()
        assert node.round.record.phase == "aggregate"
        await asyncio.sleep(SHORT_S)

    assert len(node.sent(AGGREGATE)) == 1


@simulated
async def test_a_base_that_hangs_holds_up_no_aggregate():
    node = Participation(key_of("an observer"), base=blob_digest(b"on a slow peer"))
    await node.committed()
    await node.attested()
    data = b"the aggregate of it all."
    await node.tell(*[node.round.aggregate(miner, root=root_of(data)) for miner in range(3)])
    node.elsewhere[blob_digest(data)] = data
    node.hanging.add(blob_digest(b"on a slow peer"))

    async with node.running():
        await asyncio.sleep(SHORT_S)

    assert node.store.find(blob_digest(data)) is not None


@simulated
async def test_a_base_that_is_an_aggregate_does_not_make_it_smaller():
    node = Participation(parameter_count=600_000)
    await node.committed()
    await node.attested()
    root = digest_of("a large one")
    await node.tell(*[node.round.aggregate(miner, root=root) for miner in range(3)])
    aggregate, size = node.round.record.aggregate, node.round.terms.update_size
    assert aggregate is not None
    assert size > ARTIFACT_SIZE_MAX

    later = Federation(
        node.chain, devices=node.round.devices, group_size=1, groups_min=1, base=aggregate
    )
    later.open()
    await node.tell()

    assert node.store.named[aggregate] == size


@simulated
async def test_a_base_that_comes_with_the_package_is_asked_of_nobody():
    node = Participation(base=bundled_model(LINEAR_NAME)[0].digest)
    node.round.play_to("join")
    await node.tell()
    assert node.round.record.is_open

    async with node.running():
        await asyncio.sleep(SHORT_S)

    assert node.asked == []


@simulated
async def test_updates_are_kept_after_a_finished_round_and_let_go_after_another():
    node = Participation()
    await node.committed()
    updates = [put(node.store, node.blob(device)) for device in node.round.devices]

    async with node.running():
        await node.tell(node.round.abort())
        await asyncio.sleep(SHORT_S)

    assert not set(updates) & set(node.store.named)
    assert not any(node.store.find(update) for update in updates)


@simulated
async def test_of_a_finished_round_what_is_not_in_the_sum_is_let_go():
    node = Participation()
    await node.committed()
    *others, late = node.round.devices
    updates = {device: put(node.store, node.blob(device)) for device in node.round.devices}
    await node.tell(*[node.round.attest(miner, others) for miner in range(3)])
    while node.round.record.phase == "attest":
        node.chain.commit()
    await node.tell()
    assert updates[late] in node.store.named, "as long as the round is open"

    async with node.running():
        node.round.reveal_all(others)
        await node.tell(*[node.round.aggregate(miner) for miner in range(3)])
        await asyncio.sleep(SHORT_S)

    assert node.round.record.phase == "finished"
    assert node.store.find(updates[late]) is None
    assert all(node.store.find(updates[device]) for device in others)


@simulated
async def test_of_finished_rounds_the_updates_that_fit_stay_and_all_aggregates(monkeypatch):
    node = Participation()
    # Room for the updates of two rounds: four of 24 bytes each.
    monkeypatch.setattr(federation, "PAST_SHARE", 100_000 // 200)
    finished = []
    for _ in range(3):
        terms = {"group_size": 1, "groups_min": 1, "parameter_count": 3}
        node.round = Federation(node.chain, devices=node.round.devices, **terms)
        await node.committed()
        await node.attested()
        await node.tell(*[node.round.aggregate(miner) for miner in range(3)])
        finished.append(node.round.record)

    named = set(node.store.named)
    assert all(found.aggregate in named for found in finished)
    kept = [{member.update for member in found.members} <= named for found in finished]
    assert kept == [False, True, True]
