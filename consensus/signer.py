"""The one place that signs: in order, and durable before sent (DESIGN rules 4 to 6).

The key may be here, and signs at once; or in a process of its own, which is asked, and whose answer
comes back as an event. docs/adr/0021.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Final, TypeVar

from chain.certificate import VOTE_TAG
from chain.crypto import SigningKey
from chain.types import Address, Height, PublicKey
from consensus.draft import Draft
from consensus.durable import DurableState, Signed, WalRecord
from consensus.events import HeightConfig
from consensus.messages import (
    UNSIGNED,
    Commit,
    Message,
    Position,
    Prepare,
    PrePrepare,
    RoundChange,
    position_of,
)
from consensus.order import LOST_MEMORY, height_fault, order_fault
from consensus.output import SignMessage, TellFloor

AWAITING_PEERS: Final = "awaiting-peers"
"""Nothing is signed before a quorum has shown what it holds; the driver has it asked."""
UNREACHABLE: Final = "signer-unreachable"
"""The process that has the key cannot be reached."""

M = TypeVar("M", PrePrepare, Prepare, Commit, RoundChange)


class Signer:
    """A key, and what was signed with it.

    Parameters
    ----------
    key : SigningKey or None
        The key of `miner_id`. None: a process of its own has it, which is asked for signatures.
    next_key : SigningKey, optional
        The one that the miners may put in its place: whichever the set of a height has signs there.
        The order of signing is that of the miner, so that two keys sign no more than one.
    durable : DurableState
        What the log adds up to.

    Attributes
    ----------
    is_latest : bool
        Whether enough others have shown what they hold, so that the log is no older copy.
    """

    def __init__(
        self,
        *,
        key: SigningKey | None,
        miner_id: Address,
        durable: DurableState,
        next_key: SigningKey | None = None,
    ) -> None:
        self.miner_id = miner_id
        self.durable = durable
        self.is_latest = False
        self._keys = {known.public: known for known in (key, next_key) if known is not None}
        # Without a key here: those that the other process has, while it can be reached, and what
        # it was asked for: a process that lets too much of that come together counts as lost.
        self._is_remote = key is None
        self._remote: frozenset[PublicKey] = frozenset()
        self._asked: dict[Position, Message] = {}
        self._highest_asked: Position | None = None

    def write(self, record: WalRecord, draft: Draft) -> None:
        """Make `record` part of what is remembered."""
        self.durable = self.durable.apply(record)
        draft.writes.append(record)

    def settle(self, height: Height) -> None:
        """Forget what concerns heights below `height`, where there is memory at all.

        Nothing is written: a log that still holds it says no less.
        """
        self._asked = {place: m for place, m in self._asked.items() if m.height >= height}
        floor = self.durable.floor
        if floor is not None and height > floor:
            self.durable = self.durable.settled(height)

    def silence(self, config: HeightConfig) -> str | None:
        """Return why nothing at all is signed at this height, or None."""
        member = config.miners.get(self.miner_id)
        if member is None:
            return "observer"
        if not self._is_remote and member.key not in self._keys:
            return "key-replaced"
        fault = height_fault(config.height, floor=self.durable.floor, last=self.durable.last)
        if fault == LOST_MEMORY:
            return fault
        if not self.is_latest:
            return AWAITING_PEERS
        if fault is None and self._is_remote and member.key not in self._remote:
            return "key-replaced" if self._remote else UNREACHABLE
        return fault

    def may_sign(self, position: Position, config: HeightConfig) -> bool:
        """Tell whether a message at `position` stands above everything signed so far."""
        if self.silence(config) is not None:
            return False
        if self._highest_asked is not None and position <= self._highest_asked:
            return False
        return order_fault(position, floor=self.durable.floor, last=self.durable.last) is None

    def sign(self, message: M, config: HeightConfig, draft: Draft) -> M | None:
        """Sign `message`, and have it written, then sent to all; None where it is only asked for.

        `may_sign` must hold for its position.
        """
        position = position_of(message)
        assert self.may_sign(position, config), "a miner signs in order, and only with memory"
        member = config.miners.get(self.miner_id)
        assert member is not None, "a member signs"
        statement = message.statement(config.genesis_hash)
        if self._is_remote:
            self._highest_asked = position
            self._asked[position] = message
            draft.requests.append(SignMessage(key=member.key, message=message, statement=statement))
            return None
        signed = replace(message, signature=self._keys[member.key].sign(VOTE_TAG, statement))
        self.write(Signed(message=signed), draft)
        draft.send(signed)
        return signed

    # With the key in another process

    def meet(self, keys: Collection[PublicKey]) -> None:
        """Take note of the keys that the other process has; none: it cannot be reached.

        What it was asked for before is forgotten. It may have signed that: then it will sign the
        same again, and nothing else in its place.
        """
        self._remote = frozenset(keys)
        self._asked = {}
        self._highest_asked = None

    def take(self, message: Message, draft: Draft) -> bool:
        """Have a message written, then sent to all, now that it is signed.

        False where nobody asked for it, or where this miner has lost its memory meanwhile.
        """
        position = position_of(message)
        if self._asked.get(position) != replace(message, signature=UNSIGNED):
            return False
        del self._asked[position]
        if order_fault(position, floor=self.durable.floor, last=self.durable.last) is not None:
            return False
        self.write(Signed(message=message), draft)
        draft.send(message)
        return True

    def drop(self, message: Message) -> None:
        """Forget that `message` was asked for; its place stays used up."""
        self._asked.pop(position_of(message), None)

    def owes(self, floor: Height, draft: Draft) -> None:
        """Have the other process told from where on it may sign, lest it has no memory."""
        if self._is_remote:
            draft.requests.append(TellFloor(height=floor))
