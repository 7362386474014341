"""`policy.set`: what happens to an organisation's devices whose flows are anomalous too often."""

from dataclasses import dataclass
from typing import Final

from chain.blocks import Event
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.records.policies import POLICY, POLICY_TABLE, PolicyRecord
from chain.schema import Record
from chain.transactions import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Sets the policy of the sender's organisation."""

    policy: PolicyRecord


def _apply(body: PolicySet, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    policy = body.policy
    require(
        policy.anomalous_min <= policy.window,
        "malformed",
        f"anomalous_min {policy.anomalous_min} is above window {policy.window}",
    )
    require(
        policy.action != "limit" or bool(policy.limits),
        "malformed",
        "a policy that limits devices names the limits",
    )
    organisation = transaction.payload.sender
    block.state.put(POLICY_TABLE, policy, organisation)
    return (Event(name="policy_set", values=(organisation.hex(),)),)


KIND: Final = Kind(
    name="policy.set",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(PolicySet, policy=POLICY),
    apply=_apply,
)
