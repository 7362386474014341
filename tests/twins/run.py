"""Playing scenarios, one or many."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from unittest import mock

from chain.types import Signature
from tests.interaction.cluster import miner_keys
from tests.twins.scenarios import Space
from tests.twins.world import Violation, World

SEVENS: Final = 20
"""One scenario in so many has seven members, of which two run twice."""

CALM_ROUNDS: Final = 12
"""Within so many rounds a healed network has to commit; it needs one or two."""


@dataclass(frozen=True, slots=True)
class StandInKey:
    """Signs by a keyed hash that anybody could make: quick, and no world forges."""

    public: bytes
    algorithm: str = "ed25519"

    def sign(self, tag: bytes, message: bytes) -> Signature:
        return Signature(hashlib.blake2b(tag + message, key=self.public).digest())


def _verify(public_key: bytes, tag: bytes, message: bytes, signature: bytes) -> bool:
    return hashlib.blake2b(tag + message, key=public_key).digest() == signature


@contextmanager
def stand_in_signatures() -> Iterator[None]:
    """Replace signatures, and the bytes of messages, which travel here as values."""
    with (
        mock.patch("consensus.verifier.verify", _verify),
        mock.patch("consensus.draft.encode_message", return_value=b""),
        mock.patch("tests.twins.run.keys_of", stand_in_keys),
    ):
        yield


@cache
def keys_of(n: int) -> Any:
    return miner_keys(n)


@cache
def stand_in_keys(n: int) -> Any:
    return [StandInKey(key.public) for key in miner_keys(n)]


@cache
def space_of(n: int, rounds: int) -> Space:
    return Space(n, (n - 1) // 3, rounds)


def scenario_of(number: int, rounds: int, seed: int) -> tuple[Space, Any]:
    """Return scenario `number` of the list that `seed` draws."""
    if number % SEVENS == SEVENS - 1:
        space = space_of(7, rounds)
        return space, space.scenario(number, seed)
    space = space_of(4, rounds)
    return space, space.scenario(number - number // SEVENS, seed)


def play(space: Space, moves: Any) -> World:
    """Play `moves`, then heal; raise `Violation` where a law is broken."""
    members = range(space.n)
    # Once healed, everybody proposes in turn.
    proposers = [*(move.proposer for move in moves), *members, *members]
    world = World(keys_of(space.n), space.twins, proposers)
    for move in moves:
        world.round(move)
    world.calm_rounds = world.heal(CALM_ROUNDS)
    return world


@dataclass(slots=True)
class Tally:
    """What many scenarios add up to."""

    played: int = 0
    blocks: int = 0
    proofs: int = 0
    highest_round: int = 0
    calm_rounds: int = 0

    def add(self, other: "Tally") -> None:
        self.played += other.played
        self.blocks += other.blocks
        self.proofs += other.proofs
        self.highest_round = max(self.highest_round, other.highest_round)
        self.calm_rounds = max(self.calm_rounds, other.calm_rounds)


def play_many(numbers: range, rounds: int, seed: int) -> tuple[Tally, list[tuple[int, str]]]:
    """Play scenarios by their numbers; return what they add up to, and what broke a law."""
    tally, failed = Tally(), []
    with stand_in_signatures():
        for number in numbers:
            try:
                world = play(*scenario_of(number, rounds, seed))
            except Violation as error:
                failed.append((number, str(error)))
            else:
                tally.add(
                    Tally(
                        played=1,
                        blocks=len(world.committed),
                        proofs=len(world.evidence),
                        highest_round=world.highest_round,
                        calm_rounds=world.calm_rounds,
                    )
                )
    return tally, failed
