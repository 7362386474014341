"""Nodes that share one signer are together no more than one miner, however they are cut apart."""

from dataclasses import replace
from typing import Any

import pytest

from consensus.durable import Floor
from consensus.events import MessageSigned, SignerSeen, SigningRefused
from consensus.key_memory import CONFLICT, FORGETS_PREPARED, KeyMemory, encode_key_record
from consensus.messages import position_of
from consensus.output import SignMessage
from node.signer.keeper import KeyKeeper
from node.signer.wire import Answer, SignVote
from tests.interaction.cluster import GENESIS, Journal, miner_keys
from tests.twins.run import scenario_of
from tests.twins.world import Violation, World

SEED = 1
ROUNDS = 6


class SharedWorld(World):
    """Twins without a key: each pair asks one signer, in whatever order its copies come."""

    is_remote = True

    def __init__(self, keys: Any, twins: int, proposers: Any) -> None:
        self.keepers: dict[Any, KeyKeeper] = {}
        self.refusals: list[str] = []
        self.said: dict[Any, bytes] = {}
        super().__init__(keys, twins, proposers)
        for node in self.nodes:
            key = keys[node.member]
            if node.id not in self.keepers:
                journal: Any = Journal()
                journal.append([encode_key_record(Floor(height=0))])  # type: ignore[arg-type]
                self.keepers[node.id] = KeyKeeper(genesis_hash=GENESIS, keys=[key], journal=journal)
            self.step(node, SignerSeen(keys=(key.public,)))

    def obey(self, node: Any, request: Any) -> None:
        if not isinstance(request, SignMessage):
            super().obey(node, request)
            return
        answer = self.keepers[node.id].answer(
            SignVote(number=1, key=request.key, statement=request.statement)
        )
        event: Any
        if isinstance(answer, Answer):
            signed = replace(request.message, signature=answer.signature)
            place = (node.id, position_of(signed))
            if self.said.setdefault(place, request.statement) != request.statement:
                raise Violation("two statements in one place")
            event = MessageSigned(message=signed)
        else:
            assert answer is not None, "a vote is answered"
            self.refusals.append(answer.reason)
            event = SigningRefused(message=request.message)
        self.events.append((node, event))


def play(number: int) -> SharedWorld:
    space, moves = scenario_of(number, ROUNDS, SEED)
    members = range(space.n)
    proposers = [*(move.proposer for move in moves), *members, *members]
    world = SharedWorld(miner_keys(space.n), space.twins, proposers)
    for move in moves:
        world.round(move)
    return world


def test_copies_that_share_a_signer_never_contradict_each_other():
    """ATTACKS B1: the scenarios that make twins equivocate prove nothing against these."""
    worlds = [play(number) for number in range(40)]

    assert not any(world.evidence for world in worlds)
    refusals = [reason for world in worlds for reason in world.refusals]
    assert {CONFLICT, FORGETS_PREPARED} <= set(refusals), "the copies did want to"
    assert any(world.committed for world in worlds)


def test_without_its_memory_the_signer_would_let_them(monkeypatch):
    monkeypatch.setattr(KeyMemory, "fault", lambda memory, statement: None)

    with pytest.raises(Violation, match="two statements in one place"):
        play(0)
