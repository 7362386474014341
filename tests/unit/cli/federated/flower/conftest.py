"""A chain on which three devices may learn, and what their organisation opens rounds with."""

from collections.abc import Iterator

import pytest

from chain.crypto import signing_key
from cli.federated.flower.coordinator import Coordinator
from cli.federated.opening import RoundPlan
from tests.unit.cli.fake_node import REGISTRAR, make_genesis, serving
from tests.unit.cli.federated.learning_node import LearningNode

LETTERS = "abc"


@pytest.fixture
def node() -> Iterator[LearningNode]:
    """Serve a node that knows three participants."""
    fake = LearningNode(make_genesis())
    for letter in LETTERS:
        key = signing_key("ed25519", letter.encode() * 32)
        fake.register(key, letter, roles=("participant",))
    with serving(fake):
        yield fake


@pytest.fixture
def coordinator(node: LearningNode) -> Coordinator:
    """Return the chain's registrar, who invites everybody; updates may be up to 100 long."""
    plan = RoundPlan(name="fleet", clip=100.0)
    return Coordinator(rpc=node.url, key=REGISTRAR, plan=plan)
