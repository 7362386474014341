"""`round.open`, `round.abort`, `round.attest`, `round.aggregate`: who runs a federated round.

The coordinator, an organisation, opens a round and may abort it; the miners say which updates they
hold, and what they have computed from them. What participants send is in
`chain.kinds.participation`; docs/spec/federated.md is normative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

from chain.blocks import Event
from chain.errors import Rejection
from chain.federated.progress import close_round, open_round_ids
from chain.federated.records import (
    HELD,
    MASKED_GROUP_SIZE_MIN,
    OPEN_PHASES,
    OPEN_ROUNDS,
    OPEN_ROUNDS_MAX,
    ORGANISATION_ROUNDS_MAX,
    PARTICIPANTS_MAX,
    ROUND_HEIGHTS_MAX,
    ROUND_PARAMETERS_MAX,
    ROUND_TABLE,
    STEPS,
    TERMS,
    WEIGHT,
    AggregateVote,
    Attestation,
    FederatedRound,
    Member,
    RoundIds,
    Terms,
    groups_needed,
)
from chain.fields import DIGEST
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.schema import ListOf, Record
from chain.transactions import Transaction
from chain.types import Address, Digest

SUM_MAX: Final = 2**63 - 1
"""The largest sum of updates that a parameter of 64 bits with a sign holds."""
DRAW_HEIGHTS: Final = 1
"""Between joining and sharing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invitation:
    """Names a device that may take part, what its update weighs, and how long it trains."""

    device: Address
    weight: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundOpen:
    """Opens a round on these terms for these participants, ascending by device."""

    terms: Terms
    participants: tuple[Invitation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundAbort:
    """Ends a round of the sender's."""

    round: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundAttest:
    """Says which updates the sender holds and finds sound; `held` as in `Attestation`."""

    round: Digest
    held: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundAggregate:
    """Says what the sender has computed: the Merkle root of the aggregate as a blob."""

    round: Digest
    root: Digest


def round_in(round_id: Digest, phase: str, block: BlockContext) -> FederatedRound:
    """Return a round that is in a phase.

    Raises
    ------
    Rejection
        There is no such round, it is over, or in another phase.
    """
    found = block.state.get(ROUND_TABLE, round_id)
    if found is None:
        raise Rejection("not_found", f"there is no federated round {round_id.hex()}")
    require(found.is_open, "round_closed", f"the federated round is {found.phase}")
    where = OPEN_PHASES.index(found.phase) - OPEN_PHASES.index(phase)
    detail = f"the federated round is at {found.phase}, not at {phase}"
    require(where >= 0, "too_early", detail)
    require(where <= 0, "too_late", detail)
    return found


def _open(body: RoundOpen, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    _check_terms(body, block)
    organisation = transaction.payload.sender
    ids = open_round_ids(block.state)
    require(len(ids) < OPEN_ROUNDS_MAX, "limit_reached", f"{len(ids)} federated rounds are open")
    own = sum([_coordinator_of(id, block) == organisation for id in ids])
    require(own < ORGANISATION_ROUNDS_MAX, "limit_reached", f"{own} rounds of the sender are open")
    opened = FederatedRound(
        coordinator=organisation,
        terms=body.terms,
        opened_height=block.height,
        phase="join",
        phase_height=block.height,
        members=tuple(
            [
                Member(device=invited.device, weight=invited.weight, steps=invited.steps)
                for invited in body.participants
            ]
        ),
    )
    block.state.put(ROUND_TABLE, opened, transaction.id)
    block.state.put(OPEN_ROUNDS, RoundIds(ids=(*ids, transaction.id)))
    return (Event(name="round_opened", values=(transaction.id.hex(), organisation.hex())),)


def _check_terms(body: RoundOpen, block: BlockContext) -> None:
    terms, count = body.terms, len(body.participants)
    devices = [invited.device for invited in body.participants]
    require(
        _is_ascending(devices),
        "malformed",
        "the participants are not ascending and distinct",
    )
    deadlines = terms.deadlines
    heights = [
        block.height,
        deadlines.join,
        deadlines.join + DRAW_HEIGHTS,
        deadlines.share,
        deadlines.commit,
        deadlines.attest,
        deadlines.reveal,
        deadlines.aggregate,
    ]
    require(
        _is_ascending(heights),
        "malformed",
        f"the deadlines do not ascend from height {block.height} on, with a block for the draw "
        "behind that for joining",
    )
    require(
        deadlines.aggregate <= block.height + ROUND_HEIGHTS_MAX,
        "malformed",
        f"the last deadline is more than {ROUND_HEIGHTS_MAX} heights away",
    )
    require(
        not terms.is_masked or terms.group_size >= MASKED_GROUP_SIZE_MIN,
        "malformed",
        "in a masked group of two each would know the other's update",
    )
    require(
        terms.rule != "multi_krum" or not terms.is_masked,
        "malformed",
        "multi_krum compares single updates, and these are masked",
    )
    require(
        terms.groups_min >= groups_needed(terms.rule, terms.tolerated),
        "malformed",
        f"{terms.rule} over {terms.groups_min} groups does not withstand {terms.tolerated}",
    )
    require(
        terms.group_size * terms.groups_min <= count,
        "malformed",
        f"{count} participants do not make {terms.groups_min} groups of {terms.group_size}",
    )
    require(
        terms.parameter_count * count <= ROUND_PARAMETERS_MAX,
        "limit_reached",
        f"the updates together have more than {ROUND_PARAMETERS_MAX} parameters",
    )
    weights = sum([invited.weight for invited in body.participants])
    require(
        weights * terms.clip <= SUM_MAX,
        "overflow",
        "a sum of all updates at the clip, times their weights, is more than 2^63 - 1",
    )


def _is_ascending(values: Sequence[Any]) -> bool:
    return all(first < second for first, second in pairwise(values))


def _coordinator_of(round_id: Digest, block: BlockContext) -> Address:
    found = block.state.get(ROUND_TABLE, round_id)
    assert found is not None, "an open round is on record"
    return found.coordinator


def _abort(body: RoundAbort, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    found = block.state.get(ROUND_TABLE, body.round)
    if found is None:
        raise Rejection("not_found", f"there is no federated round {body.round.hex()}")
    require(
        found.coordinator == transaction.payload.sender,
        "not_permitted",
        "another organisation has opened the federated round",
    )
    require(found.is_open, "round_closed", f"the federated round is {found.phase}")
    return close_round(body.round, replace(found, phase="aborted"), block)


def _attest(body: RoundAttest, transaction: Transaction, block: BlockContext) -> tuple[Event, ...]:
    miner = transaction.payload.sender
    require(miner in block.miners, "not_permitted", "the sender is no miner of this height")
    found = round_in(body.round, "attest", block)
    require(
        len(body.held) == (len(found.members) + 7) // 8,
        "malformed",
        f"{len(body.held)} bytes for {len(found.members)} members",
    )
    said = int.from_bytes(body.held, "big")
    committed = sum(
        [1 << place for place, member in enumerate(found.members) if member.update is not None]
    )
    require(said & ~committed == 0, "malformed", "a member is named that has committed nothing")
    before = sum(
        [int.from_bytes(entry.held, "big") for entry in found.attestations if entry.miner == miner]
    )
    require(
        before | said == said != before,
        "already_done",
        "the sender has said as much, or takes back what it has said",
    )
    # Members only, so that the list stays bounded however often the set changes.
    others = [
        entry
        for entry in found.attestations
        if entry.miner != miner and entry.miner in block.miners
    ]
    attestations = (*others, Attestation(miner=miner, held=body.held))
    block.state.put(ROUND_TABLE, replace(found, attestations=attestations), body.round)
    return ()


def _aggregate(
    body: RoundAggregate, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    miner = transaction.payload.sender
    require(miner in block.miners, "not_permitted", "the sender is no miner of this height")
    found = round_in(body.round, "aggregate", block)
    require(
        all(vote.miner != miner for vote in found.votes),
        "already_done",
        "the sender has said what it has computed",
    )
    votes = (
        *[vote for vote in found.votes if vote.miner in block.miners],
        AggregateVote(miner=miner, digest=found.terms.blob_of(body.root)),
    )
    block.state.put(ROUND_TABLE, replace(found, votes=votes), body.round)
    return ()


OPEN: Final = Kind(
    name="round.open",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(
        RoundOpen,
        terms=TERMS,
        participants=ListOf(
            Record(Invitation, device=DIGEST, weight=WEIGHT, steps=STEPS),
            PARTICIPANTS_MAX,
            minimum=1,
        ),
    ),
    body_size_max=16 * 1024,
    apply=_open,
)
ABORT: Final = Kind(
    name="round.abort",
    signer=Signer.REGISTRAR,
    lane=Lane.REGISTRY,
    body=Record(RoundAbort, round=DIGEST),
    apply=_abort,
)
ATTEST: Final = Kind(
    name="round.attest",
    signer=Signer.MINER,
    lane=Lane.REGISTRY,
    body=Record(RoundAttest, round=DIGEST, held=HELD),
    apply=_attest,
)
AGGREGATE: Final = Kind(
    name="round.aggregate",
    signer=Signer.MINER,
    lane=Lane.REGISTRY,
    body=Record(RoundAggregate, round=DIGEST, root=DIGEST),
    apply=_aggregate,
)
