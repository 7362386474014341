"""The checkers see what they are there for: bugs planted into nodes are found by them.

A checker that never fails proves nothing. Each bug is put into the running code, and a world in
which it shows has to end with the violation of the rule that it breaks.
"""

import asyncio
from dataclasses import replace

import pytest

from chain.blocks import HEADER, Block
from chain.certificate import CERTIFICATE, VoteType
from node.intake import Intake
from node.ports import WriteBatch
from node.replica_driver import ReplicaDriver
from node.storage import schema
from node.storage.chain_store import ChainStore
from node.verification import Verifier
from tests.builders import Chain
from tests.simulation.checkers import MESSAGES_PER_SECOND_MAX, Ledger, Traffic, Violation
from tests.simulation.network import LinkQuality
from tests.simulation.workload import Workload
from tests.simulation.world import Host, Settings, World, leaves_of


async def busy(world: World) -> None:
    """Let clients send while one miner restarts again and again."""
    world.start()
    load = Workload(world)
    await load.prepare()
    async with asyncio.TaskGroup() as group:
        clients = group.create_task(load.run())
        for _ in range(12):
            await asyncio.sleep(0.37)
            await world.kill("m1")
            world.start("m1")
        await world.reach(world.ledger.height + 5, within_s=60)
        clients.cancel()
    load.check_receipts()


def play(seed: int = 1) -> World:
    return World(seed, Settings(detectors=False)).run(busy)


def test_without_a_bug_nothing_is_found():
    assert play().ledger.height > 20


def test_a_node_that_sends_before_it_writes_is_found(monkeypatch):
    obey = ReplicaDriver._obey

    async def hasty(self, output, group):
        for send in output.sends:
            self._send(send)
        await obey(self, replace(output, sends=()), group)

    monkeypatch.setattr(ReplicaDriver, "_obey", hasty)

    with pytest.raises(Violation, match="before it is in its log"):
        play()


def test_a_node_that_attests_a_block_without_storing_it_is_found(monkeypatch):
    async def forget(self, block):
        pass

    monkeypatch.setattr(ChainStore, "store_proposed", forget)

    with pytest.raises(Violation, match="not on its disk"):
        play()


def test_a_node_that_forgets_what_it_signed_is_found(monkeypatch):
    build = Host._build
    # Nor does it wait to be shown what it has forgotten.
    monkeypatch.setattr("consensus.memory.has_heard_enough", lambda *arguments: True)

    def forgetful(self):
        log = self.disk.open_log()
        log.rewrite(list(log.records())[:1])
        log.close()
        return build(self)

    async def scene(world):
        miner = world.identities["m1"].miner_id
        world.start()
        await world.reach(1, within_s=20)

        def has_signed():
            return world.promises.last(miner).height > world.ledger.height

        for _ in range(12):
            await world.until(has_signed, within_s=60, what="a signature of m1")
            await world.kill("m1")
            world.start("m1")
            await world.reach(world.ledger.height + 1, within_s=60)

    monkeypatch.setattr(Host, "_build", forgetful)
    slow = LinkQuality(latency_us_min=200_000, latency_us_max=200_000)
    world = World(1, Settings(detectors=False, quality=slow))

    with pytest.raises(Violation, match=r"signs (two things|.* behind)"):
        world.run(scene)


def test_nodes_that_take_forged_transactions_are_found(monkeypatch):
    async def believe(self, pairs):
        return [True] * len(pairs)

    monkeypatch.setattr(Verifier, "check", lambda *_: True)
    monkeypatch.setattr(Verifier, "verify_many", believe)

    with pytest.raises(Violation, match=r"commits a bad block .*signature does not verify"):
        play()


def test_a_node_that_takes_what_is_true_for_forged_is_found(monkeypatch):
    monkeypatch.setattr("consensus.signatures.is_signed", lambda message, *_, **__: False)

    with pytest.raises(Violation, match=r"m\d takes 20 points from m\d"):
        play()


def test_a_certificate_that_is_lost_from_a_disk_is_found(monkeypatch):
    write = ChainStore._write

    def sloppy(self, *decided):
        write(self, *decided)
        batch = WriteBatch()
        batch.delete(schema.CERTIFICATE + schema.height_bytes(2))
        self._store.write(batch)

    monkeypatch.setattr(ChainStore, "_write", sloppy)

    with pytest.raises(Violation, match="the database of m0"):
        play()


def test_a_height_that_is_lost_over_a_restart_is_found(monkeypatch):
    build = Host._build

    def backdated(self):
        self.committed += 1
        return build(self)

    monkeypatch.setattr(Host, "_build", backdated)

    with pytest.raises(BaseExceptionGroup) as group:
        play()

    assert "has lost heights" in str(leaves_of(group.value)[0])


def test_a_failing_task_fails_the_world(monkeypatch):
    def broken(self, *_):
        raise ZeroDivisionError

    monkeypatch.setattr(Intake, "on_transactions", broken)

    with pytest.raises(BaseExceptionGroup) as group:
        play()

    assert {type(leaf) for leaf in leaves_of(group.value)} == {ZeroDivisionError}


# What no world has shown so far is put before the checkers by hand


def written(chain: Chain, block: Block, **certificate) -> WriteBatch:
    """Return what a node writes when it commits a block, as far as the ledger reads it."""
    height = schema.height_bytes(block.header.height)
    proof = chain.certificate(block.header, chain.miners, **certificate)
    batch = WriteBatch()
    batch.put(schema.HEADER + height, HEADER.encode(block.header))
    batch.put(schema.BODY + height, schema.encode_body([t.wire for t in block.transactions]))
    batch.put(schema.CERTIFICATE + height, CERTIFICATE.encode(proof))
    batch.put(schema.TIP_KEY, height)
    return batch


@pytest.fixture
def scene():
    """Return a chain, its ledger after block 1, that block, and another one for its height."""
    chain = Chain()
    block, other = (chain.block(chain.registration(name)[1]) for name in ("one", "other"))
    ledger = Ledger(chain.genesis)
    ledger.on_write("m0", written(chain, block))
    ledger.on_write("m1", written(chain, block))
    return chain, ledger, block, other


def test_two_blocks_of_one_height_are_found_though_a_quorum_has_signed_both(scene):
    chain, ledger, _, other = scene
    with pytest.raises(Violation, match="height 1 differs"):
        ledger.on_write("m1", written(chain, other))


def test_other_transactions_under_the_same_header_are_found(scene):
    chain, ledger, block, other = scene
    with pytest.raises(Violation, match="has other transactions"):
        ledger.on_write("m1", written(chain, replace(block, transactions=other.transactions)))


@pytest.mark.parametrize("certificate", [{"signers": [0, 1]}, {"type": VoteType.PREPARE}], ids=str)
def test_a_certificate_that_proves_nothing_is_found(scene, certificate):
    chain, ledger, block, _ = scene
    with pytest.raises(Violation, match="commits 1 unproven"):
        ledger.on_write("m1", written(chain, block, **certificate))
    with pytest.raises(Violation, match="commits 1 unproven"):
        Ledger(chain.genesis).on_write("m0", written(chain, block, **certificate))


def test_a_height_that_is_left_out_is_found(scene):
    chain, ledger, block, _ = scene
    chain.accept(block)
    chain.commit(chain.registration("two")[1])
    third = chain.block(chain.registration("three")[1])
    with pytest.raises(Violation, match="commits height 3 before 2"):
        ledger.on_write("m0", written(chain, third))


def test_a_storm_of_messages_is_found():
    traffic = Traffic()
    for second in (1, 2):
        for _ in range(MESSAGES_PER_SECOND_MAX):
            traffic.on_delivered("m0", second + 0.5)
    with pytest.raises(Violation, match="messages in one second"):
        traffic.on_delivered("m0", 2.9)
