"""A light client is moved on over the headers at which the miners change, and over few others."""

import math
from collections import Counter
from dataclasses import replace

import pytest

from chain.crypto import address_of
from chain.errors import InvalidCertificate, UntrustedHeader
from chain.genesis import genesis_header
from chain.kinds.miners import MinerPropose, RemoveMiner
from chain.light_client import LightClient
from node.light_walk import Decided, walk
from tests.builders import Chain, key_of, make_certificate, make_genesis

BLOCKS = 40


class Told:
    """A chain of five miners that become six, then five others; and what was asked of it."""

    def __init__(self) -> None:
        self.chain = Chain(make_genesis(miners=5))
        self.blocks: list[Decided] = []
        self.asked: Counter[int] = Counter()
        self._pass(BLOCKS)
        self._change(self.chain.addition(5), voters=(1, 2, 3))
        self._pass(BLOCKS)
        gone = address_of(key_of("miner 0").public)
        self._change(MinerPropose(change=RemoveMiner(miner=gone)), voters=(1, 2, 3))
        self._pass(BLOCKS)

    def _pass(self, count: int) -> None:
        for _ in range(count):
            self._commit()

    def _change(self, change: MinerPropose, *, voters: tuple[int, ...]) -> None:
        proposal = self.chain.by_miner(0, "miner.propose", change)
        votes = [self.chain.vote(number, proposal) for number in voters]
        self._commit(proposal, *votes)

    def _commit(self, *transactions):
        miners = self.chain.miners
        header = self.chain.commit(*transactions).header
        certificate = make_certificate(header, miners, self.chain.keys)
        self.blocks.append(Decided(header=header, certificate=certificate, miners=miners))

    async def decided(self, height: int) -> Decided:
        self.asked[height] += 1
        return self.blocks[height - 1]

    def client(self, height: int = 0) -> LightClient:
        if height:
            return LightClient(self.blocks[height - 1].header)
        genesis = make_genesis(miners=5)
        return LightClient(genesis_header(genesis, Chain(genesis).state.root))

    async def walk(self, light: LightClient, target: Decided) -> list[Decided]:
        return await walk(light, target, decided=self.decided, now_ms=target.header.time_ms)


@pytest.fixture(scope="module")
def told():
    return Told()


@pytest.fixture(autouse=True)
def _nothing_asked(told):
    told.asked.clear()


async def test_every_header_is_reached_from_genesis_over_two_changes_of_the_miners(told):
    for target in told.blocks:
        light = told.client()

        await told.walk(light, target)

        assert light.trusted == target.header
    assert len({block.header.miner_set_hash for block in told.blocks}) == 3


async def test_what_is_asked_for_grows_with_the_changes_and_not_with_the_chain(told):
    await told.walk(told.client(), told.blocks[-1])

    assert told.asked.total() <= 2 * (2 + math.log2(len(told.blocks)))


async def test_nothing_is_asked_for_where_the_miners_stay(told):
    await told.walk(told.client(2), told.blocks[BLOCKS - 1])

    assert not told.asked


async def test_an_earlier_header_is_not_walked_to(told):
    with pytest.raises(UntrustedHeader):
        await told.walk(told.client(len(told.blocks)), told.blocks[BLOCKS])


async def test_nothing_is_returned_of_what_was_told_and_not_trusted(told):
    """A joining node keeps the way, and hands it on: what is false in it would ban that node."""
    light, true, noise = told.client(), told.blocks, told.blocks[-1].header.hash

    async def lying(height):
        block = true[height - 1]
        if block.header.miner_set_hash == light.trusted.next_miner_set_hash:
            return block
        return replace(block, header=replace(block.header, miner_set_hash=noise))

    target = true[-1]
    steps = await walk(light, target, decided=lying, now_ms=target.header.time_ms)

    changes = [b for b in true if b.header.next_miner_set_hash != b.header.miner_set_hash]
    assert steps == changes


async def test_a_node_cannot_make_the_way_as_long_as_the_chain(told, monkeypatch):
    true = told.blocks

    async def next_only(height):
        told.asked[height] += 1
        noise = replace(true[-1].header, miner_set_hash=true[-1].header.hash)
        is_first = told.asked.total() % 8 == 1
        return true[height - 1] if is_first else replace(true[height - 1], header=noise)

    monkeypatch.setattr(told, "decided", next_only)

    with pytest.raises(UntrustedHeader):
        await told.walk(told.client(), true[-1])
    assert told.asked.total() < 20


@pytest.mark.parametrize("lie", ["miners", "certificate", "header"])
async def test_a_node_that_lies_on_the_way_is_not_believed(told, monkeypatch, lie):
    true = told.blocks
    last = true[-1]
    forged = [
        {
            "miners": lambda block: replace(block, miners=last.miners),
            "certificate": lambda block: replace(block, certificate=last.certificate),
            "header": lambda block: replace(
                block, header=replace(block.header, next_miner_set_hash=last.miners.hash)
            ),
        }[lie](block)
        for block in true
    ]
    monkeypatch.setattr(told, "blocks", forged)

    with pytest.raises((UntrustedHeader, InvalidCertificate)):
        await told.walk(told.client(), last)
