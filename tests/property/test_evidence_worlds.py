"""Evidence in random worlds of consensus: all that is found convicts, and nobody honest ever."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from chain.crypto import address_of
from chain.errors import Rejection
from chain.kinds import KINDS
from chain.kinds.evidence import Equivocation
from chain.state import Overlay
from chain.types import Height
from tests.builders import Chain, make_genesis
from tests.interaction.cluster import GENESIS
from tests.interaction.worlds import run_world

SEEDS = (0, 3, 5, 6)
"""Worlds of four to seven miners, of whom some lie in all but the first."""

KIND = KINDS["evidence"]


class Court:
    """The rules of the chain, for the miners of a world."""

    def __init__(self, keys: Any) -> None:
        genesis = make_genesis(miners=len(keys))
        miners = [replace(miner, key=key) for miner, key in zip(genesis.miners, keys, strict=True)]
        self.chain = Chain(replace(genesis, miners=tuple(miners)))
        self.block = replace(self.chain.context(), genesis_hash=GENESIS, height=Height(10_000))
        self.reporter = address_of(keys[0])

    def outcome(self, body: Equivocation) -> str:
        """Return how the rules refuse a proof that is sent alone, or the event it brings about."""
        payload = SimpleNamespace(sender=self.reporter)
        transaction: Any = SimpleNamespace(payload=payload, id=bytes(32))
        block = replace(self.block, state=Overlay(self.chain.state))
        try:
            assert KIND.apply is not None
            (event,) = KIND.apply(body, transaction, block)
        except Rejection as error:
            return error.code
        return event.name


def accusation(first: Any, second: Any) -> Equivocation:
    """Return two messages as a proof against the sender of the first, whatever they say."""
    statements = sorted(
        (message.statement(GENESIS), message.signature) for message in (first, second)
    )
    (one, one_signature), (two, two_signature) = statements
    return Equivocation(
        miner=first.sender,
        first=one,
        first_signature=one_signature,
        second=two,
        second_signature=two_signature,
    )


@pytest.fixture(scope="module", params=SEEDS)
def world(request):
    return run_world(request.param)


@pytest.mark.attack("B1")
def test_every_proof_that_is_found_convicts_a_liar(world):
    court = Court(world["keys"])

    for proof in world["proofs"]:
        body = Equivocation(
            miner=proof.miner,
            first=proof.first,
            first_signature=proof.first_signature,
            second=proof.second,
            second_signature=proof.second_signature,
        )
        assert proof.miner in world["liar_ids"]
        assert court.outcome(body) == "miner_demoted"


@pytest.mark.attack("B1", "E8")
def test_no_two_messages_of_an_honest_miner_convict_it(world):
    court = Court(world["keys"])
    honest = {address_of(key) for key in world["keys"]} - world["liar_ids"]
    by_sender = {id: [m for m in world["said"] if m.sender == id] for id in sorted(honest)}
    assert any(by_sender.values())

    for said in by_sender.values():
        said.sort(key=lambda m: (m.height, m.round, m.phase, m.statement(GENESIS)))
        # Two that agree in height, round and type, if there were any, would be neighbours.
        for first, second in pairwise(said):
            assert court.outcome(accusation(first, second)) == "malformed"
