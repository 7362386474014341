"""node.signer.keeper: signs what it knows, for its chain, once it is on the disk."""

from typing import Any

import pytest

from chain.certificate import VOTE_TAG
from chain.crypto import signing_key, verify
from chain.kinds import KINDS
from chain.kinds.evidence import Equivocation
from chain.kinds.rounds import RoundAggregate, RoundAttest
from chain.kinds.verdict import Verdict, opinion_of, pack_opinions
from chain.transactions import PAYLOAD, SIGNATURE_TAG, TRANSACTION_VERSION, Payload
from chain.types import Address, Digest, Height, Round, Signature, TimestampMs
from consensus.durable import Floor
from consensus.key_memory import CONFLICT, encode_key_record
from consensus.messages import Commit, Prepare
from consensus.order import FLOOR, LOST_MEMORY
from node.signer import keeper as module
from node.signer.keeper import SIGNED_KINDS, KeyKeeper
from node.signer.wire import (
    KIND,
    MALFORMED,
    UNKNOWN_KEY,
    WRONG_CHAIN,
    Answer,
    Refusal,
    SetFloor,
    SignTransaction,
    SignVote,
)
from tests.interaction.cluster import GENESIS, Journal

KEY, NEXT = signing_key("ed25519", b"k" * 32), signing_key("p256", b"n" * 32)
ME = Address(b"m" * 32)
OTHER_CHAIN = Digest(b"o" * 32)
BLOCK = Digest(b"b" * 32)


class Disk(Journal):
    """The log of a signer, over restarts."""

    def __init__(self, floor: int | None = 0) -> None:
        super().__init__()
        if floor is not None:
            self.append([encode_key_record(Floor(height=Height(floor)))])


class BrokenDisk(Disk):
    def append(self, records: Any) -> None:
        if self.kept:
            raise OSError("the disk refuses")
        super().append(records)


def keeper(disk: Any) -> KeyKeeper:
    return KeyKeeper(genesis_hash=GENESIS, keys=[KEY, NEXT], journal=disk)


def prepare(digest: Digest = BLOCK, height: int = 1, genesis: Digest = GENESIS) -> bytes:
    vote = Prepare(sender=ME, height=Height(height), round=Round(0), digest=digest)
    return vote.statement(genesis)


def vote(statement: bytes, key: Any = KEY) -> SignVote:
    return SignVote(number=7, key=key.public, statement=statement)


def payload(kind: str = "verdict", genesis: Digest = GENESIS, body: bytes | None = None) -> bytes:
    if body is None:
        opinions = pack_opinions([opinion_of(score, 2) for score in (1, 2)])
        body = KINDS["verdict"].body.encode(
            Verdict(height=Height(1), model=BLOCK, judged=BLOCK, opinions=opinions)
        )
    return PAYLOAD.encode(
        Payload(
            version=TRANSACTION_VERSION,
            genesis_hash=genesis,
            kind=kind,
            sender=ME,
            time_ms=TimestampMs(1),
            nonce=bytes(8),
            body=body,
        )
    )


def transaction(data: bytes) -> SignTransaction:
    return SignTransaction(number=8, key=KEY.public, payload=data)


def reason(answer: Any) -> str:
    assert isinstance(answer, Refusal)
    return answer.reason


@pytest.mark.parametrize("key", [KEY, NEXT])
def test_a_vote_is_signed_by_the_key_that_is_asked_for(key):
    answer = keeper(Disk()).answer(vote(prepare(), key))
    assert isinstance(answer, Answer)
    assert answer.number == 7
    assert verify(key.public, VOTE_TAG, prepare(), answer.signature)


def test_a_contradiction_is_refused_also_over_a_restart_and_with_the_other_key():
    disk = Disk()
    first = keeper(disk).answer(vote(prepare()))

    again = keeper(disk)

    assert again.answer(vote(prepare())) == first
    assert reason(again.answer(vote(prepare(Digest(b"x" * 32))))) == CONFLICT
    assert reason(again.answer(vote(prepare(Digest(b"x" * 32)), NEXT))) == CONFLICT


def test_nothing_is_signed_that_is_not_on_the_disk_first():
    broken = keeper(BrokenDisk())
    for _ in range(2):
        with pytest.raises(OSError, match="refuses"):
            broken.answer(vote(prepare()))


def test_a_kill_right_after_the_write_leaves_a_signature_that_can_only_be_that_one():
    class Killed(Disk):
        def append(self, records: Any) -> None:
            super().append(records)
            if len(self.kept) > 1:
                raise OSError("killed")

    disk = Killed()
    with pytest.raises(OSError, match="killed"):
        keeper(disk).answer(vote(prepare()))

    again = keeper(disk)

    assert reason(again.answer(vote(prepare(Digest(b"x" * 32))))) == CONFLICT
    assert isinstance(again.answer(vote(prepare())), Answer)


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (vote(prepare(genesis=OTHER_CHAIN)), WRONG_CHAIN),
        (vote(prepare(), signing_key("ed25519", b"z" * 32)), UNKNOWN_KEY),
        (vote(b"\x90"), MALFORMED),
        (vote(payload()[:100]), MALFORMED),
        (transaction(payload(genesis=OTHER_CHAIN)), WRONG_CHAIN),
        (transaction(payload("miner.vote")), KIND),
        (transaction(payload("device.data")), KIND),
        (transaction(payload(body=b"\x90")), MALFORMED),
        (transaction(prepare()), MALFORMED),
    ],
)
def test_what_it_does_not_know_is_refused_with_its_word(question, word):
    disk = Disk()
    assert reason(keeper(disk).answer(question)) == word
    assert len(disk.kept) == 1, "nothing was written"


def test_whatever_a_node_sends_in_its_miners_name_by_itself_is_signed():
    bodies: dict[str, Any] = {
        "evidence": Equivocation(
            miner=ME,
            first=prepare(),
            first_signature=Signature(bytes(64)),
            second=prepare(Digest(b"x" * 32)),
            second_signature=Signature(bytes(64)),
        ),
        "round.attest": RoundAttest(round=BLOCK, held=b"\x01"),
        "round.aggregate": RoundAggregate(round=BLOCK, root=BLOCK),
    }
    assert {"verdict", *bodies} == set(SIGNED_KINDS)
    for kind, body in bodies.items():
        answer = keeper(Disk()).answer(
            transaction(payload(kind, body=KINDS[kind].body.encode(body)))
        )
        assert isinstance(answer, Answer), kind


def test_a_verdict_is_signed_as_a_transaction():
    answer = keeper(Disk()).answer(transaction(payload()))
    assert isinstance(answer, Answer)
    assert verify(KEY.public, SIGNATURE_TAG, payload(), answer.signature)


def test_a_signer_without_memory_believes_the_first_floor_it_is_told_and_no_other():
    disk = Disk(floor=None)
    signer = keeper(disk)
    assert not signer.hello().remembers
    assert reason(signer.answer(vote(prepare()))) == LOST_MEMORY

    signer.answer(SetFloor(height=Height(5)))
    signer.answer(SetFloor(height=Height(1)))

    assert signer.hello().remembers
    assert reason(signer.answer(vote(prepare(height=4)))) == FLOOR
    assert isinstance(keeper(disk).answer(vote(prepare(height=5))), Answer)


def test_the_log_is_rewritten_at_its_bound_and_forgets_nothing_that_matters(monkeypatch):
    monkeypatch.setattr(module, "LOG_RECORDS_MAX", 8)
    disk = Disk()
    signer = keeper(disk)
    for height in range(1, 40):
        commit = Commit(sender=ME, height=Height(height), round=Round(0), digest=BLOCK)
        for statement in (prepare(height=height), commit.statement(GENESIS)):
            assert isinstance(signer.answer(vote(statement)), Answer)
        assert len(disk.kept) <= 8
    assert reason(keeper(disk).answer(vote(prepare(Digest(b"x" * 32), 39)))) == CONFLICT
