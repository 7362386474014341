"""Readers of `consensus`, and the replica itself with a hostile member."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from chain import codec
from chain.certificate import VOTE_TAG
from chain.errors import DecodeError
from chain.types import TimestampMs
from consensus.codec import decode_message, encode_message
from consensus.durable import RECORD, decode_record, encode_record, recover
from consensus.errors import InvalidMessage
from consensus.events import PeerConnected, Received, Tick, WorkPending
from consensus.output import BuildBlock, CheckProposal
from consensus.timers import NS_PER_MS
from tests.fuzz.chain_targets import VECTORS
from tests.fuzz.target import Check, Target, codec_target, drawn_seeds, pure
from tests.interaction.cluster import GENESIS, WALL_START_MS, make_proposal
from tests.unit.consensus.bench import Bench
from tests.unit.consensus.plain import BlockBuilt, ProposalChecked

HONEST: Final = (1, 2)
HOSTILE: Final = 3
ASKED_MAX: Final = 8
REPLICA_LIFE: Final = 400


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield codec_target("consensus message", _messages, decode_message, encode_message)
    yield codec_target("consensus record", drawn_seeds(RECORD), decode_record, encode_record)
    yield pure("consensus log", "msgpack", _logs, _check_log)
    yield Target(name="replica", form="msgpack", seeds=_actions, opened=_replica, life=REPLICA_LIFE)


def _messages() -> list[bytes]:
    vectors = json.loads((VECTORS / "consensus.json").read_text())["messages"]
    return [bytes.fromhex(vector["bytes"]) for vector in vectors]


def _logs() -> list[bytes]:
    records = drawn_seeds(RECORD)()
    return [codec.encode(records[start : start + 4]) for start in range(0, len(records), 4)]


def _check_log(data: bytes) -> bool:
    """Whatever is on the disk, a rewritten log allows and forbids the same signatures."""
    try:
        items: list[Any] = codec.decode(data, what="log")
        records = [decode_record(item) for item in items if type(item) is bytes]
    except DecodeError:
        return False
    state = recover(records)
    again = recover(state.records())
    for one, other in ((state.floor, again.floor), (state.lost_height, again.lost_height)):
        assert one == other, "it remembers another height"
    assert (again.last, again.messages) == (state.last, state.messages), "it has signed otherwise"
    return True


def _actions() -> list[bytes]:
    """Return ``[event, number, message]``; members 1 and 2 say what honest ones may, 3 the rest."""
    bench = Bench()
    block, other = bench.proposal(), bench.proposal(content=b"other")
    certificate = bench.certificate(block)
    prepared = [bench.round_change(by, 1, prepared=certificate) for by in HONEST]
    bare = [bench.round_change(HOSTILE, round) for round in (1, 2, 3, 9)]
    justification = bench.justification(*prepared, bare[0], certificate=certificate)
    messages = [
        bench.pre_prepare(block),
        bench.pre_prepare(block, 1, justification, by=2),
        bench.pre_prepare(other, by=HOSTILE),
        bench.pre_prepare(bench.proposal(2), 2, bench.justification(bare[1]), by=HOSTILE),
        *prepared,
        *bare,
        bench.round_change(HOSTILE, 1, prepared=certificate),
    ]
    for vote in (bench.prepare, bench.commit):
        messages += [vote(by, block, round) for by in (*HONEST, HOSTILE) for round in (0, 1)]
        messages += [
            vote(HOSTILE, other, round, height) for round in (0, 5) for height in (0, 1, 2, 9)
        ]
    events = [codec.encode([0, by, encode_message(m)]) for m in messages for by in (0, 1)]
    return events + [codec.encode([event, by, b""]) for event in range(1, 6) for by in range(4)]


class _Miner:
    """A replica at work on one height, and what it has asked its driver for."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.asked: list[Any] = []
        self.said: dict[tuple[int, int, str], bytes] = {}

    def take(self, event: Any) -> bool:
        """Give it an event, and check what it says; True once it has committed the height."""
        output = self.bench.step(event)
        self.bench.outputs.clear()
        self.bench.records.clear()
        self.asked = [*self.asked, *output.requests][-ASKED_MAX:]
        for send in output.sends:
            mine = send.message
            if mine.sender != self.bench.ids[0]:
                continue
            place = (mine.height, mine.round, mine.name)
            statement = mine.statement(GENESIS)
            assert self.said.setdefault(place, statement) == statement, f"two things: {place}"
        for evidence in output.evidence:
            assert evidence.miner == self.bench.ids[HOSTILE], "an honest member is accused"
        return bool(output.commits)

    def event(self, kind: int, number: int, message: Any) -> Any:
        """Return the event that an input stands for; None where there is nothing to answer."""
        bench = self.bench
        builds = [found for found in self.asked if isinstance(found, BuildBlock)]
        checks = [found for found in self.asked if isinstance(found, CheckProposal)]
        match kind:
            case 0:
                if message.sender == bench.ids[HOSTILE] and number:
                    signature = bench.keys[HOSTILE].sign(VOTE_TAG, message.statement(GENESIS))
                    message = replace(message, signature=signature)
                return Received(message=message, wall_ms=TimestampMs(WALL_START_MS))
            case 1:
                bench.now += number * 600 * NS_PER_MS
                return Tick()
            case 2:
                return WorkPending()
            case 3 if builds:
                asked = builds[-1]
                block = make_proposal(
                    bench.config, proposer=bench.ids[0], round=asked.round, content=b"mine"
                )
                return BlockBuilt(height=asked.height, round=asked.round, proposal=block)
            case 4 if checks:
                checked = checks[number % len(checks)]
                digest = checked.proposal.digest
                return ProposalChecked(height=checked.height, digest=digest, valid=True)
            case 5:
                return PeerConnected(miner=bench.ids[number])
            case _:
                return None


@contextmanager
def _replica() -> Iterator[Check]:
    """Yield a replica at work: it says one thing in one place and accuses nobody honest.

    Member 3 signs whatever the input says; what the others have signed stands in the seeds.
    """
    miner = _Miner()

    def check(data: bytes) -> bool:
        nonlocal miner
        try:
            kind, number, encoded = codec.decode(data, what="action", size_max=2**20)
            if type(kind) is not int or type(number) is not int or type(encoded) is not bytes:
                return False
            message = decode_message(encoded) if kind == 0 else None
        except (DecodeError, ValueError):
            return False
        event = miner.event(kind, number % len(miner.bench.ids), message)
        if event is None:
            return False
        try:
            if miner.take(event):
                miner = _Miner()
        except InvalidMessage:
            return False
        return True

    yield check
