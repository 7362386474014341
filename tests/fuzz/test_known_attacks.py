"""What random inputs would find sooner or later, tried one by one."""

from typing import Any

import msgpack
import pytest

from chain.certificate import CERTIFICATE, VoteType
from chain.errors import DecodeError, InvalidCertificate
from consensus.codec import decode_message, encode_message
from consensus.errors import InvalidMessage
from consensus.messages import is_signed_by
from tests.fuzz.campaign import replay
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS
from tests.interaction.cluster import GENESIS
from tests.unit.consensus.bench import Bench
from tests.unit.consensus.plain import verify
from tests.unit.consensus.test_codec import example_messages

ENCODED = {name: target for name, target in TARGETS.items() if target.form == "msgpack"}
STRANGE: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 2**31, 2**63, 2**64 - 1, 1.5, float("nan"), "", "x" * 400),
    *(b"", bytes(31), bytes(33), bytes(400), [], [[]], [None] * 300, {}, {"a": 1}),
)
CLAIMS = [
    bytes.fromhex(head)
    for head in ("ddffffffff", "dcffff", "dd00100000", "c6ffffffff", "dbffffffff", "dfffffffff")
]
DEEP = [b"\x91" * depth + b"\x90" for depth in (20, 1_000, 20_000, 60_000)]
WIDE = [b"\xdc\x27\x10" * depth for depth in (10, 1_000, 20_000)]


def strange_versions(value: Any) -> list[Any]:
    """Return `value` with each of its items, at any depth, replaced by everything strange."""
    versions = list(STRANGE)
    if isinstance(value, list):
        for index, item in enumerate(value):
            head, tail = value[:index], value[index + 1 :]
            versions += [[*head, other, *tail] for other in strange_versions(item)]
        versions += [value[:-1], [*value, None], value * 2]
    return versions


def inputs_of(target: Target) -> list[bytes]:
    seed = min(target.seeds(), key=len)
    versions = strange_versions(msgpack.unpackb(seed, raw=False))
    return [msgpack.packb(version, use_bin_type=True) for version in versions]


@pytest.mark.attack("D4", "D5", "D6")
@pytest.mark.parametrize("name", ENCODED)
def test_nothing_missing_or_of_another_type_does_more_than_be_refused(name):
    replay(ENCODED[name], inputs_of(ENCODED[name]))


@pytest.mark.attack("D3")
@pytest.mark.parametrize("name", ENCODED)
def test_no_claim_of_a_length_and_no_depth_costs_memory(name):
    seed = ENCODED[name].seeds()[0]
    heads = [*CLAIMS, *(b"\x91" + head for head in CLAIMS), *(seed[:3] + head for head in CLAIMS)]

    replay(ENCODED[name], [*heads, *DEEP, *WIDE])


@pytest.mark.attack("B4", "B16")
@pytest.mark.parametrize("name", example_messages())
def test_a_message_with_another_sender_or_type_is_signed_by_nobody(name):
    bench = Bench()
    word, fields = msgpack.unpackb(encode_message(example_messages()[name]), raw=False)
    changed = [[word, [miner.id, *fields[1:]]] for miner in bench.miners if miner.id != fields[0]]
    changed += [
        [other, fields]
        for other in ("pre-prepare", "prepare", "commit", "round-change")
        if other != word
    ]

    for items in changed:
        try:
            message = decode_message(msgpack.packb(items, use_bin_type=True))
        except DecodeError:
            continue
        member = bench.miners.get(message.sender)
        assert member is not None
        assert not is_signed_by(message, member.key, GENESIS, verify)


@pytest.mark.attack("D4", "D5")
@pytest.mark.parametrize("indices", [(0, 1, 4), (0, 1, 99), (1, 0, 2), (0, 0, 1), (0, 1), ()])
def test_a_round_change_whose_certificate_names_other_signers_is_refused(indices):
    bench = Bench()
    good = bench.certificate(bench.proposal())
    votes = [[index, good.votes[0].signature] for index in indices]
    certificate = CERTIFICATE.read([1, 0, good.digest, votes], "certificate")

    with pytest.raises(InvalidMessage):
        bench.receive(bench.round_change(1, 1, prepared=certificate))


@pytest.mark.attack("C1")
def test_of_a_certificate_nothing_but_its_validity_has_an_effect():
    """Whatever no signature covers is either refused or changes nothing that follows."""
    bench = Bench()
    block = bench.proposal()
    good = bench.certificate(block, by=(0, 1, 2, 3))
    fields: Any = CERTIFICATE.write(good)
    accepted = []
    for version in strange_versions(fields):
        try:
            certificate = CERTIFICATE.read(version, "certificate")
            certificate.check_signers(bench.miners)
            certificate.verify(
                type=VoteType.PREPARE, genesis_hash=GENESIS, miners=bench.miners, is_signed=verify
            )
        except (DecodeError, InvalidCertificate):
            continue
        accepted.append(certificate)

    assert accepted, "a vote more than a quorum may be missing"
    assert {(found.height, found.round, found.digest) for found in accepted} <= {
        (good.height, good.round, good.digest)
    }
    assert all(set(found.votes) <= set(good.votes) for found in accepted)
