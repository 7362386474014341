"""`miner.propose`: the miners change who is one of them."""

from dataclasses import dataclass, replace
from typing import Final

from chain import codec
from chain.blocks import Event
from chain.crypto import (
    ED25519_KEY_SIZE,
    SigningKey,
    address_of,
    check_public_key,
    verify,
)
from chain.errors import InvalidKey, Rejection
from chain.governance import open_proposal
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.miners import MINERS_MAX, Miner
from chain.payloads import NAME, NAME_SIZE_MAX
from chain.records import (
    EVIDENCE_TABLE,
    HOST,
    MINER_SETS,
    MINER_TABLE,
    MinerRecord,
    MinerSets,
)
from chain.schema import Blob, Integer, Record, Tagged, Text
from chain.state import View
from chain.transactions import Transaction
from chain.types import (
    DIGEST_SIZE,
    SIGNATURE_SIZE,
    TIME_MS_MAX,
    Address,
    Digest,
    PublicKey,
    Signature,
)

ACCEPTANCE_TAG: Final = b"securenet/miner-acceptance/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMiner:
    """Adds a member, or takes back one that was removed.

    Parameters
    ----------
    valid_until_ms : int
        Block time at which the acceptance ends: the change has to be made in an earlier block, so
        that nobody is added, or added back, by what it signed long ago.
    acceptance : Signature
        By which the candidate agrees; made by `sign_acceptance`.
    """

    name: str
    key: PublicKey
    node_key: PublicKey
    host: str
    port: int
    valid_until_ms: int
    acceptance: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveMiner:
    """Removes a member."""

    miner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreMiner:
    """Lets a demoted member propose, judge and govern again."""

    miner: Address


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveMiner:
    """Changes where a member's node is reached."""

    miner: Address
    host: str
    port: int


MembershipChange = AddMiner | RemoveMiner | RestoreMiner | MoveMiner

_PORT: Final = Integer(1, 65_535)

CHANGE: Final = Tagged(
    {
        "add": Record(
            AddMiner,
            name=Text(NAME_SIZE_MAX, pattern=NAME),
            key=Blob(ED25519_KEY_SIZE),
            node_key=Blob(ED25519_KEY_SIZE),
            host=HOST,
            port=_PORT,
            valid_until_ms=Integer(0, TIME_MS_MAX),
            acceptance=Blob(SIGNATURE_SIZE),
        ),
        "remove": Record(RemoveMiner, miner=Blob(DIGEST_SIZE)),
        "restore": Record(RestoreMiner, miner=Blob(DIGEST_SIZE)),
        "move": Record(MoveMiner, miner=Blob(DIGEST_SIZE), host=HOST, port=_PORT),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerPropose:
    """Proposes a change of membership."""

    change: MembershipChange


def sign_acceptance(
    genesis_hash: Digest, key: SigningKey, node_key: PublicKey, *, valid_until_ms: int
) -> Signature:
    """Return the signature by which a candidate agrees to become a miner."""
    message = _acceptance_bytes(genesis_hash, key.public, node_key, valid_until_ms)
    return key.sign(ACCEPTANCE_TAG, message)


def _acceptance_bytes(
    genesis_hash: Digest, key: PublicKey, node_key: PublicKey, valid_until_ms: int
) -> bytes:
    return codec.encode((genesis_hash, key, node_key, valid_until_ms))


def _check(body: MinerPropose, view: View, block: BlockContext) -> None:
    change = body.change
    if isinstance(change, AddMiner):
        _check_addition(change, view, block)
        return
    record = view.get(MINER_TABLE, change.miner)
    if record is None or record.status == "removed":
        raise Rejection("not_found", f"{change.miner.hex()} is no miner")
    if isinstance(change, RemoveMiner):
        require(len(_latest_set(view)) > 1, "invalid_state", "the last miner cannot be removed")
    elif isinstance(change, RestoreMiner):
        require(record.status == "demoted", "invalid_state", "the miner is not demoted")


def _check_addition(change: AddMiner, view: View, block: BlockContext) -> None:
    for key in (change.key, change.node_key):
        try:
            check_public_key(key)
        except InvalidKey as error:
            raise Rejection("malformed", str(error)) from error
    require(
        verify(
            change.key,
            ACCEPTANCE_TAG,
            _acceptance_bytes(
                block.genesis_hash, change.key, change.node_key, change.valid_until_ms
            ),
            change.acceptance,
        ),
        "bad_signature",
        "the candidate's acceptance does not verify",
    )
    require(
        block.time_ms < change.valid_until_ms,
        "acceptance_expired",
        "the candidate's acceptance is past",
    )
    members = _latest_set(view)
    require(len(members) < MINERS_MAX, "limit_reached", f"there are {MINERS_MAX} miners")
    for member in members:
        record = view.get(MINER_TABLE, member.id)
        assert record is not None, "every member is on record"
        for name in ("name", "key", "node_key"):
            require(
                getattr(record, name) != getattr(change, name),
                "already_exists",
                f"a miner has this {name}",
            )


def _must_wait(body: MinerPropose, block: BlockContext) -> bool:
    """Tell whether a change of the set is decided and not in effect yet."""
    sets = _sets(block.state)
    is_pending = sets.after is not None or sets.current != sets.next
    return is_pending and isinstance(body.change, AddMiner | RemoveMiner)


def _latest_set(view: View) -> tuple[Miner, ...]:
    """Return the set that was decided last, in effect or not."""
    sets = _sets(view)
    return sets.after or sets.next


def _sets(view: View) -> MinerSets:
    sets = view.get(MINER_SETS)
    assert sets is not None, "genesis sets the miners"
    return sets


def _enact(body: MinerPropose, block: BlockContext) -> tuple[Event, ...]:
    change = body.change
    if isinstance(change, AddMiner):
        id = address_of(change.key)
        record = MinerRecord(
            name=change.name,
            key=change.key,
            node_key=change.node_key,
            host=change.host,
            port=change.port,
            status="active",
            since_height=block.height,
        )
        _change_set(block, add=Miner(id=id, key=change.key))
        _pardon(id, block)
    else:
        id = change.miner
        known = block.state.get(MINER_TABLE, id)
        assert known is not None, "checked just before"
        if isinstance(change, RemoveMiner):
            record = replace(known, status="removed", since_height=block.height)
            _change_set(block, remove=id)
        elif isinstance(change, RestoreMiner):
            record = replace(known, status="active")
            _pardon(id, block)
        else:
            record = replace(known, host=change.host, port=change.port)
    block.state.put(MINER_TABLE, record, id)
    return (Event(name=f"miner_{CHANGE.word_of(change)}", values=(id.hex(),)),)


def _pardon(miner: Address, block: BlockContext) -> None:
    """Let what a convicted miner has signed so far count no more: the miners voted knowing it."""
    evidence = block.state.get(EVIDENCE_TABLE, miner)
    if evidence is not None:
        block.state.put(EVIDENCE_TABLE, replace(evidence, pardoned_height=block.height), miner)


def _change_set(
    block: BlockContext, *, add: Miner | None = None, remove: Address | None = None
) -> None:
    """Fix the set of height + 2."""
    sets = _sets(block.state)
    members = {member.id: member for member in sets.next if member.id != remove}
    if add is not None:
        members[add.id] = add
    after = tuple(members[id] for id in sorted(members))
    block.state.put(MINER_SETS, replace(sets, after=after))


def _propose(
    body: MinerPropose, transaction: Transaction, block: BlockContext
) -> tuple[Event, ...]:
    return open_proposal(KIND, body, transaction, block)


KIND: Final = Kind(
    name="miner.propose",
    signer=Signer.MINER,
    lane=Lane.GOVERNANCE,
    body=Record(MinerPropose, change=CHANGE),
    apply=_propose,
    check=_check,
    must_wait=_must_wait,
    enact=_enact,
)
