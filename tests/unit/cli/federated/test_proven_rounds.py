"""What a node says of a round is believed, where a hash is trusted, as far as it is proven."""

import json
from urllib.request import urlopen

import pytest
from aiohttp import web

from chain.crypto import signing_key
from chain.federated.records import ROUND_TABLE, SHARES_TABLE
from chain.kinds.rounds import Invitation, RoundOpen
from chain.records.devices import DEVICE_TABLE
from chain.types import Address, Digest
from cli.client import ask
from cli.errors import Missed
from cli.federated.chain_port import RoundReader
from cli.signing import device_sender, registrar_sender
from tests.federation import make_terms
from tests.learners import Learner
from tests.unit.cli.fake_node import REGISTRAR, FakeNode, make_genesis, serving

KEYS = [signing_key("ed25519", letter * 32) for letter in (b"a", b"b", b"c")]


class Shared:
    """A masked round of three, of whom the first two have handed over their shares."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node
        self.members = [
            Address(bytes.fromhex(node.register(key, f"gateway-{index}", roles=("participant",))))
            for index, key in enumerate(KEYS)
        ]
        genesis, chain = node.chain.genesis, node.chain
        senders = {
            sender.address: sender
            for sender in [device_sender(genesis, key, organisation="acme") for key in KEYS]
        }
        invited = tuple([Invitation(device=id, weight=1, steps=1) for id in sorted(self.members)])
        terms = make_terms(chain.tip.next_height, group_size=3)
        opening = registrar_sender(genesis, REGISTRAR, "acme").sign(
            "round.open", RoundOpen(terms=terms, participants=invited)
        )
        chain.commit([opening])
        self.id = opening.id
        learners = [Learner(member) for member in self.members]
        chain.commit([senders[one.id].sign("round.join", one.join(self.id)) for one in learners])
        chain.commit([])
        found = chain.tip.state.get(ROUND_TABLE, self.id)
        assert found is not None
        assert found.phase == "share"
        for one in learners[:2]:
            chain.commit([senders[one.id].sign("round.share", one.share(self.id, found))])

    def record_of(self, member: Address) -> object:
        return self.node.chain.tip.state.get(SHARES_TABLE, self.id + member)

    def read(self, *, trust: Digest | None) -> object:
        """Return what is read of the shares of all."""
        return ask(
            self.node.url,
            lambda client: RoundReader(client, trust).shares(self.id, self.members),
        )

    def proof_path(self, member: Address) -> str:
        return f"/v1/rounds/{self.id.hex()}/shares/{member.hex()}/proof"


@pytest.fixture
def shared():
    with serving(FakeNode(make_genesis())) as node:
        yield Shared(node)


def test_shares_are_read_with_their_proofs_and_are_those_that_a_believed_node_tells(shared):
    expected = {member: shared.record_of(member) for member in shared.members[:2]}

    assert shared.read(trust=shared.node.chain.genesis.hash) == expected
    assert f"GET /v1/rounds/{shared.id.hex()}/shares" not in shared.node.requests
    assert shared.read(trust=None) == expected
    assert f"GET /v1/rounds/{shared.id.hex()}/shares" in shared.node.requests


def test_whose_devices_take_part_is_proven_too(shared):
    node, members = shared.node, shared.members
    record = node.chain.tip.state.get(DEVICE_TABLE, members[0])
    expected = dict.fromkeys(members, record.organisation)

    def read(trust):
        return ask(node.url, lambda client: RoundReader(client, trust).organisations(members))

    assert read(None) == expected
    assert read(node.chain.genesis.hash) == expected
    first, second, _ = [f"/v1/devices/{member.hex()}/proof" for member in members]
    with urlopen(node.url + second) as answer:
        node.overrides[first] = [web.json_response(json.load(answer))]
    with pytest.raises(Missed, match="proof does not hold"):
        read(node.chain.genesis.hash)


def test_shares_that_are_not_on_the_chain_are_not_believed(shared):
    first, second, silent = shared.members
    lies = {
        "another's": (first, second),
        "none, though it has shared": (first, silent),
        "some, though it has not": (silent, first),
    }
    for name, (member, shown) in lies.items():
        with urlopen(shared.node.url + shared.proof_path(shown)) as answer:
            forged = json.load(answer)
        shared.node.overrides[shared.proof_path(member)] = [web.json_response(forged)]

        with pytest.raises(Missed, match="proof does not hold"):
            shared.read(trust=shared.node.chain.genesis.hash)
        assert not shared.node.overrides[shared.proof_path(member)], name


def test_a_node_that_has_fallen_behind_what_is_trusted_is_told_from_one_that_lies(shared):
    first = shared.members[0]
    with urlopen(shared.node.url + shared.proof_path(first)) as answer:
        old = json.load(answer)
    shared.node.chain.commit([])
    shared.node.overrides[shared.proof_path(first)] = [web.json_response(old)]

    with pytest.raises(Missed, match="last block is"):
        shared.read(trust=shared.node.chain.tip.header.hash)
