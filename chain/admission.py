"""Algorithm 1 of the paper: what every transaction passes before it stands in a block.

The same function decides at admission, where it advises a node from its own clock, and in block
validation, where it binds everybody and sees committed state and block time alone.

Notes
-----
The paper checks the rate before the signature and charges it there; then anyone could burn the
budget of a device with forgeries in its name. Here the rate is *checked* early and *charged* only
once the signature is verified and the transaction is no duplicate. See
docs/adr/0006-rate-charged-last.md.

References
----------
Paper, section IV, Algorithm 1 "Enhanced Verification for Secure IoT Blockchain Transactions";
docs/spec/state.md, section "Algorithm 1".
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from chain.crypto import tagged_hash
from chain.devices import active_device
from chain.eligibility import is_active
from chain.errors import DecodeError, Rejection
from chain.kinds import KINDS
from chain.kinds.base import Admitted, BlockContext, Kind, Signer, Standing
from chain.kinds.device_data import is_judged
from chain.limits import RateLimits
from chain.measures import policy_of
from chain.parameters import FUTURE_DRIFT_MS
from chain.records.devices import DEVICE_TABLE, DeviceRecord
from chain.records.miners import MINER_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.state import View
from chain.transactions import Transaction
from chain.types import Address, PublicKey

Verify = Callable[[Transaction, PublicKey], bool]
"""VERIFYSIG: a node passes one that remembers what it has verified already."""

_REGISTRAR_TAG: Final = b"securenet/registrar-rate/v1"


def algorithm_1(transaction: Transaction, block: BlockContext, verify: Verify) -> Admitted:
    """Let `transaction` pass steps 1 to 6 of Algorithm 1 in `block`.

    Raises
    ------
    Rejection
        With the code of the step that failed.
    """
    kind = kind_of(transaction, block)
    if kind.metered:
        standing = standing_of(transaction, kind, block)  # 1. VERIFYMINER(M), 2. T.DID registered
        check_timely(transaction, block)  # 3.
        check_rate_limits(standing.limits, block)  # 4. EXCEEDSRATELIMIT(T)
        key, admitted = standing.key, standing.admitted
    else:
        verify_miner(block.proposer, block)  # 1.
        check_timely(transaction, block)  # 3.
        subjects: tuple[Address, ...] = ()
        if kind.signer is Signer.REGISTRAR:
            subjects = registrar_subjects(transaction.payload.sender)
        limits = block.parameters.registrar_limits
        check_rate_limits([(subject, limits) for subject in subjects], block)  # 4.
        key = signer_key(transaction, kind.signer, block.state)
        admitted = Admitted(kind=kind, subjects=subjects)
    if not verify(transaction, key):  # 5. VERIFYSIG(T)
        raise Rejection("bad_signature", "the signature does not verify under the registered key")
    if block.recent.has_id(transaction.id):  # 6. ISDUP(T)
        raise Rejection("duplicate", "a transaction with this id is on the chain already")
    return admitted


def append(transaction: Transaction, admitted: Admitted, block: BlockContext) -> None:
    """Step 7: take the transaction into the block; only now is the rate charged."""
    block.recent.append(transaction.id)
    for subject in admitted.subjects:
        block.recent.charge(subject)
    if admitted.kind.metered:
        payload = admitted.kind.decode(transaction).payload
        if is_judged(payload, block.state, block.height):
            block.recent.add_flow(transaction.payload.sender, transaction.digest)


def kind_of(transaction: Transaction, block: BlockContext) -> Kind:
    """Return the kind; refuse what is of another chain or of no known kind or form."""
    payload = transaction.payload
    if payload.genesis_hash != block.genesis_hash:
        raise Rejection("wrong_chain", "the transaction is signed for another chain")
    kind = KINDS.get(payload.kind)
    if kind is None:
        raise Rejection("unknown_kind", f"there is no kind {payload.kind}")
    try:
        kind.decode(transaction)
    except DecodeError as error:
        raise Rejection("malformed", str(error)) from error
    return kind


def standing_of(transaction: Transaction, kind: Kind, block: BlockContext) -> Standing:
    """Let the sender pass steps 1 and 2; as long as the state stays, the answer stays."""
    sender = transaction.payload.sender
    standing = block.standings.get((kind.name, sender))
    if standing is None:
        verify_miner(block.proposer, block)
        device = active_device(sender, block.state, time_ms=block.time_ms)
        limits = tuple(limits_of(sender, device, block.state, time_ms=block.time_ms))
        subjects = tuple([subject for subject, _ in metered_subjects(sender, device, block.state)])
        admitted = Admitted(kind=kind, subjects=subjects)
        standing = Standing(key=device.key, limits=limits, admitted=admitted)
        block.standings[kind.name, sender] = standing
    return standing


def verify_miner(miner: Address, block: BlockContext) -> None:
    """VERIFYMINER(M): an approved miner of this height, not demoted.

    Notes
    -----
    Judged by the state before the block, as eligibility is: a block that removes its own proposer
    is finished by it all the same.
    """
    if miner not in block.miners or not is_active(block.committed, miner):
        raise Rejection("unauthorised_miner", f"{miner.hex()} is no active miner")


def check_timely(transaction: Transaction, block: BlockContext) -> None:
    """Check B − L < time_ms ≤ B + D, and that raising L revives nothing."""
    time_ms = transaction.payload.time_ms
    oldest = max(
        block.time_ms - block.parameters.transaction_lifetime_ms,
        block.parameters.lifetime_floor_ms,
    )
    if not oldest < time_ms <= block.time_ms + FUTURE_DRIFT_MS:
        raise Rejection(
            "expired",
            f"time_ms {time_ms} is not after {oldest} and at most {FUTURE_DRIFT_MS} ms ahead of "
            f"the chain's time {block.time_ms}",
        )


def check_rate_limits(limits: Sequence[tuple[Address, RateLimits]], block: BlockContext) -> None:
    """EXCEEDSRATELIMIT(T): no window of the device, its organisation or gateway is full."""
    for subject, windows in limits:
        for window in windows:
            if block.recent.sent_within(subject, window.seconds) >= window.capacity:
                raise Rejection(
                    "rate_limited",
                    f"{window.capacity} transactions in {window.seconds} s are used up",
                    retry_after_ms=block.recent.free_in_ms(subject, window),
                )


def signer_key(transaction: Transaction, signer: Signer, view: View) -> PublicKey:
    """Return the key under which VERIFYSIG(T) holds.

    Raises
    ------
    Rejection
        ``not_permitted``: the sender does not have the role that the kind asks for.
    """
    sender = transaction.payload.sender
    if signer is Signer.MINER:
        miner = view.get(MINER_TABLE, sender)
        if miner is not None and miner.status == "active":
            return miner.key
    elif signer is Signer.REGISTRAR:
        organisation = view.get(ORGANISATION_TABLE, sender)
        if organisation is not None and organisation.active:
            return organisation.registrar_key
    else:
        device = view.get(DEVICE_TABLE, sender)
        if device is not None and device.status != "revoked":
            return device.key
    raise Rejection("not_permitted", f"the sender is no active {signer.value}")


def expected_key(transaction: Transaction, view: View) -> PublicKey | None:
    """Return the key that Algorithm 1 would ask for now, to verify ahead of it; None if none."""
    kind = KINDS.get(transaction.payload.kind)
    if kind is None:
        return None
    try:
        return signer_key(transaction, kind.signer, view)
    except Rejection:
        return None


def registrar_subjects(organisation: Address) -> tuple[Address, ...]:
    """Return whom a registrar's transaction is charged to: its organisation, but not its devices.

    What they send together is counted under the organisation's own id.
    """
    return (Address(tagged_hash(_REGISTRAR_TAG, organisation)),)


def metered_subjects(
    device_id: Address, device: DeviceRecord, view: View
) -> Iterator[tuple[Address, RateLimits]]:
    """Yield whom a device's transaction is charged to, with their limits.

    Notes
    -----
    A device's organisation and gateway are set once, at registration, so that the look-back can be
    rebuilt from old blocks with the state of today.
    """
    yield device_id, device.limits
    organisation = view.get(ORGANISATION_TABLE, device.organisation)
    if organisation is not None:
        yield device.organisation, organisation.limits
    if device.gateway is not None:
        gateway = view.get(DEVICE_TABLE, device.gateway)
        if gateway is not None:
            yield device.gateway, gateway.limits


def limits_of(
    device_id: Address, device: DeviceRecord, view: View, *, time_ms: int
) -> Iterator[tuple[Address, RateLimits]]:
    """Yield all limits that hold for what a device sends at block time `time_ms`."""
    yield from metered_subjects(device_id, device, view)
    if device.is_limited(time_ms):
        yield device_id, policy_of(device.organisation, view).limits
