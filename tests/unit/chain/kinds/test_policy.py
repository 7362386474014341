"""policy.set."""

import pytest

from chain.kinds.organisations import organisation_id
from chain.kinds.policy import PolicySet
from chain.records.policies import POLICY_TABLE, PolicyRecord
from tests.builders import Chain


@pytest.fixture
def chain():
    return Chain()


def test_a_registrar_sets_the_policy_of_its_organisation(chain):
    policy = PolicyRecord(action="observe", anomalous_min=1, window=256, duration_ms=1_000)

    chain.commit(chain.by_registrar("policy.set", PolicySet(policy=policy)))

    assert chain.state.get(POLICY_TABLE, organisation_id("acme")) == policy


@pytest.mark.parametrize(
    "policy",
    [
        PolicyRecord(anomalous_min=3, window=2),
        PolicyRecord(anomalous_min=0),
        PolicyRecord(window=257),
        PolicyRecord(duration_ms=999),
        PolicyRecord(duration_ms=2**40),
        PolicyRecord(action="delete"),
    ],
)
def test_other_policies_are_refused(chain, policy):
    transaction = chain.by_registrar("policy.set", PolicySet(policy=policy))

    assert chain.rejection(transaction).code == "malformed"


def test_the_default_is_30_of_100():
    policy = PolicyRecord()

    assert (policy.action, policy.anomalous_min, policy.window) == ("quarantine", 30, 100)
