"""`miner.propose`: the miners change who is one of them, and under which keys.

A miner's id is the digest of its first key and stays when its keys are replaced, so that its past
stays as well: docs/adr/0015-a-miner-keeps-its-id.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from chain import codec
from chain.blocks import Event
from chain.crypto import SigningKey, address_of, verify
from chain.eligibility import keeps_quorum
from chain.errors import Rejection
from chain.fields import ADDRESS, DIGEST, HEIGHT, HOST, MINER_KEY, NAME, TIME_MS
from chain.governance import open_proposal
from chain.key_registry import Use, claim, miner_of_key, require_free, require_usable
from chain.kinds.base import BlockContext, Kind, Lane, Signer, require
from chain.miners import MINERS_MAX, Miner
from chain.parameters import ANCHOR_INTERVAL, EVIDENCE_WINDOW
from chain.records.miners import (
    ANCHOR_TABLE,
    EVIDENCE_TABLE,
    FORMER_KEYS_MAX,
    MINER_SETS,
    MINER_TABLE,
    FormerKey,
    MinerRecord,
    MinerSets,
)
from chain.schema import Blob, Integer, Record, Tagged
from chain.state import View, decided_set
from chain.table import height_key
from chain.transactions import Transaction
from chain.types import (
    SIGNATURE_SIZE,
    Address,
    Digest,
    Height,
    PublicKey,
    Signature,
)

ACCEPTANCE_TAG: Final = b"securenet/miner-acceptance/v1"
REPLACEMENT_TAG: Final = b"securenet/miner-key-replacement/v1"
EFFECT_HEIGHTS: Final = 2
"""A change of the set that is decided in block h holds from h + 2 on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddMiner:
    """Adds a member, or takes back one that was removed.

    Parameters
    ----------
    height, block_hash : Height, Digest
        The block up to which the candidate has come, at least: `anchor_height` says which to name.
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
    height: Height
    block_hash: Digest
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceKeys:
    """Gives a member another key, another node key, or both; nothing else of it changes.

    Parameters
    ----------
    key, node_key : PublicKey
        As they shall be; the one that stays is named as well.
    valid_until_ms : int
        Block time at which the signatures end.
    by_old, by_new, by_node : Signature
        By the member's present key, by `key` and by `node_key`: see `sign_replacement`.
    """

    miner: Address
    key: PublicKey
    node_key: PublicKey
    valid_until_ms: int
    by_old: Signature
    by_new: Signature
    by_node: Signature


MembershipChange = AddMiner | RemoveMiner | RestoreMiner | MoveMiner | ReplaceKeys

_PORT: Final = Integer(1, 65_535)

CHANGE: Final = Tagged(
    {
        "add": Record(
            AddMiner,
            name=NAME,
            key=MINER_KEY,
            node_key=MINER_KEY,
            host=HOST,
            port=_PORT,
            height=HEIGHT,
            block_hash=DIGEST,
            valid_until_ms=TIME_MS,
            acceptance=Blob(SIGNATURE_SIZE),
        ),
        "remove": Record(RemoveMiner, miner=ADDRESS),
        "restore": Record(RestoreMiner, miner=ADDRESS),
        "move": Record(MoveMiner, miner=ADDRESS, host=HOST, port=_PORT),
        "replace_keys": Record(
            ReplaceKeys,
            miner=ADDRESS,
            key=MINER_KEY,
            node_key=MINER_KEY,
            valid_until_ms=TIME_MS,
            by_old=Blob(SIGNATURE_SIZE),
            by_new=Blob(SIGNATURE_SIZE),
            by_node=Blob(SIGNATURE_SIZE),
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinerPropose:
    """Proposes a change of membership."""

    change: MembershipChange


def anchor_height(height: int) -> Height:
    """Return the last block up to `height` that an acceptance may name."""
    return Height(height - height % ANCHOR_INTERVAL)


def sign_acceptance(
    genesis_hash: Digest,
    key: SigningKey,
    node_key: PublicKey,
    *,
    height: Height,
    block_hash: Digest,
    valid_until_ms: int,
) -> Signature:
    """Return the signature by which a candidate that has come so far agrees to become a miner."""
    message = codec.encode((genesis_hash, key.public, node_key, height, block_hash, valid_until_ms))
    return key.sign(ACCEPTANCE_TAG, message)


def sign_replacement(
    genesis_hash: Digest,
    miner: Address,
    signer: SigningKey,
    *,
    key: PublicKey,
    node_key: PublicKey,
    valid_until_ms: int,
) -> Signature:
    """Return the signature of one of the keys concerned under the replacement of a miner's keys."""
    message = codec.encode((genesis_hash, miner, key, node_key, valid_until_ms))
    return signer.sign(REPLACEMENT_TAG, message)


def _check(body: MinerPropose, view: View, block: BlockContext) -> None:
    change = body.change
    if isinstance(change, AddMiner):
        _check_addition(change, view, block)
        return
    record = view.get(MINER_TABLE, change.miner)
    if record is None or record.status == "removed":
        raise Rejection("not_found", f"{change.miner.hex()} is no miner")
    match change:
        case RemoveMiner():
            _check_removal(change.miner, view)
        case RestoreMiner():
            require(record.status == "demoted", "invalid_state", "the miner is not demoted")
        case ReplaceKeys():
            _check_replacement(change, record, view, block)
        case MoveMiner():
            pass


def _check_addition(change: AddMiner, view: View, block: BlockContext) -> None:
    require_usable(change.key)
    require_usable(change.node_key)
    message = codec.encode(
        (
            block.genesis_hash,
            change.key,
            change.node_key,
            change.height,
            change.block_hash,
            change.valid_until_ms,
        )
    )
    require(
        verify(change.key, ACCEPTANCE_TAG, message, change.acceptance),
        "bad_signature",
        "the candidate's acceptance does not verify",
    )
    _require_valid(change.valid_until_ms, block)
    _require_in_sync(change, view, block)
    members = [member.id for member in decided_set(view)]
    require(len(members) < MINERS_MAX, "limit_reached", f"there are {MINERS_MAX} miners")
    id = _candidate(change, view)
    require(id not in members, "already_exists", f"{id.hex()} is a miner")
    for member in members:
        record = view.get(MINER_TABLE, member)
        assert record is not None, "every member is on record"
        require(record.name != change.name, "already_exists", "a miner has this name")
    before = view.get(MINER_TABLE, id)
    _require_free(
        view,
        id,
        change.key,
        change.node_key,
        current=(b"", b"") if before is None else (before.key, before.node_key),
    )


def _check_removal(miner: Address, view: View) -> None:
    members = [member.id for member in decided_set(view)]
    require(len(members) > 1, "invalid_state", "the last miner cannot be removed")
    # Its removal is in effect in two heights, and until then nothing depends on it any more.
    require(
        keeps_quorum(view, [id for id in members if id != miner]),
        "loses_quorum",
        "fewer active miners would be left than the quorum of the smaller set; "
        "restore or remove demoted ones first",
    )


def _check_replacement(
    change: ReplaceKeys, record: MinerRecord, view: View, block: BlockContext
) -> None:
    require_usable(change.key)
    require_usable(change.node_key)
    require(
        (change.key, change.node_key) != (record.key, record.node_key),
        "already_exists",
        "the miner has these keys",
    )
    message = codec.encode(
        (block.genesis_hash, change.miner, change.key, change.node_key, change.valid_until_ms)
    )
    for key, signature in (
        (record.key, change.by_old),
        (change.key, change.by_new),
        (change.node_key, change.by_node),
    ):
        require(
            verify(key, REPLACEMENT_TAG, message, signature),
            "bad_signature",
            f"the key {key.hex()} has not signed the replacement",
        )
    _require_valid(change.valid_until_ms, block)
    _require_free(
        view,
        change.miner,
        change.key,
        change.node_key,
        current=(record.key, record.node_key),
    )
    require(
        change.key == record.key or len(accountable(record, block)) < FORMER_KEYS_MAX,
        "limit_reached",
        f"{FORMER_KEYS_MAX} keys were replaced within the last {EVIDENCE_WINDOW} heights",
    )


def _require_valid(valid_until_ms: int, block: BlockContext) -> None:
    require(
        block.time_ms < valid_until_ms,
        "acceptance_expired",
        "what the miner to be has signed is past",
    )


def _require_in_sync(change: AddMiner, view: View, block: BlockContext) -> None:
    """Refuse a candidate that does not show, by its hash, a block that is recent enough."""
    if change.height == block.height - 1:
        block_hash = block.parent_hash
    else:
        anchor = view.get(ANCHOR_TABLE, height_key(change.height))
        block_hash = Digest(b"") if anchor is None else anchor.block_hash
    oldest = block.height - block.parameters.join_heights_max
    require(
        change.block_hash == block_hash and change.height >= oldest,
        "not_in_sync",
        f"the candidate does not show a block of this chain from {max(0, oldest)} on "
        f"(every {ANCHOR_INTERVAL}th counts)",
    )


def _candidate(change: AddMiner, view: View) -> Address:
    """Return the id of the candidate: that of the miner whose key this is, or a new one."""
    return miner_of_key(view, change.key) or address_of(change.key)


def _require_free(
    view: View,
    miner: Address,
    key: PublicKey,
    node_key: PublicKey,
    *,
    current: tuple[bytes, bytes],
) -> None:
    require(key != node_key, "already_exists", "one key cannot be that of the miner and its node")
    require_free(view, key, Use(role="miner", owner=miner), current=current[0])
    require_free(view, node_key, Use(role="node", owner=miner), current=current[1])


def _must_wait(body: MinerPropose, block: BlockContext) -> bool:
    """Tell whether a change of the set is decided and not in effect yet."""
    change = body.change
    sets = _sets(block.state)
    if sets.after is None and sets.current == sets.next:
        return False
    if isinstance(change, ReplaceKeys):
        known = block.state.get(MINER_TABLE, change.miner)
        return known is not None and known.key != change.key
    return isinstance(change, AddMiner | RemoveMiner)


def _sets(view: View) -> MinerSets:
    sets = view.get(MINER_SETS)
    assert sets is not None, "genesis sets the miners"
    return sets


def _enact(body: MinerPropose, block: BlockContext) -> tuple[Event, ...]:
    change = body.change
    if isinstance(change, AddMiner):
        id = _candidate(change, block.state)
        before = block.state.get(MINER_TABLE, id)
        record = MinerRecord(
            name=change.name,
            key=change.key,
            node_key=change.node_key,
            host=change.host,
            port=change.port,
            status="active",
            since_height=block.height,
            former_keys=() if before is None else before.former_keys,
        )
        _change_set(block, [*decided_set(block.state), Miner(id=id, key=change.key)])
        _pardon(id, block)
    else:
        id = change.miner
        known = block.state.get(MINER_TABLE, id)
        assert known is not None, "checked just before"
        record = _changed(change, known, block)
    block.state.put(MINER_TABLE, record, id)
    claim(block.state, record.key, Use(role="miner", owner=id))
    claim(block.state, record.node_key, Use(role="node", owner=id))
    return (Event(name=f"miner_{CHANGE.word_of(change)}", values=(id.hex(),)),)


def _changed(
    change: RemoveMiner | RestoreMiner | MoveMiner | ReplaceKeys,
    known: MinerRecord,
    block: BlockContext,
) -> MinerRecord:
    others = [member for member in decided_set(block.state) if member.id != change.miner]
    match change:
        case RemoveMiner():
            _change_set(block, others)
            return replace(known, status="removed", since_height=block.height)
        case RestoreMiner():
            _pardon(change.miner, block)
            return replace(known, status="active")
        case MoveMiner():
            return replace(known, host=change.host, port=change.port)
        case ReplaceKeys():
            if change.key == known.key:
                return replace(known, node_key=change.node_key)
            _change_set(block, [*others, Miner(id=change.miner, key=change.key)])
            last = Height(block.height + EFFECT_HEIGHTS - 1)
            former = (*accountable(known, block), FormerKey(key=known.key, until_height=last))
            return replace(known, key=change.key, node_key=change.node_key, former_keys=former)


def accountable(record: MinerRecord, block: BlockContext) -> tuple[FormerKey, ...]:
    """Return the former keys under which evidence is still taken."""
    oldest = block.height - EVIDENCE_WINDOW
    return tuple(former for former in record.former_keys if former.until_height >= oldest)


def _pardon(miner: Address, block: BlockContext) -> None:
    """Let what a convicted miner has signed so far count no more: the miners voted knowing it."""
    evidence = block.state.get(EVIDENCE_TABLE, miner)
    if evidence is not None:
        block.state.put(EVIDENCE_TABLE, replace(evidence, pardoned_height=block.height), miner)


def _change_set(block: BlockContext, members: Sequence[Miner]) -> None:
    """Fix the set of height + `EFFECT_HEIGHTS`."""
    after = tuple(sorted(members, key=lambda member: member.id))
    block.state.put(MINER_SETS, replace(_sets(block.state), after=after))


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
