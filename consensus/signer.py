"""The one place that signs: in order, and durable before sent (DESIGN rules 4 to 6)."""

from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from chain.certificate import VOTE_TAG
from chain.crypto import SigningKey
from chain.types import Address, Height
from consensus.codec import encode_message
from consensus.durable import DurableState, Signed, WalRecord
from consensus.errors import InvalidMessage
from consensus.events import HeightConfig
from consensus.evidence import Evidence
from consensus.height import RoundEntry
from consensus.messages import Commit, Message, Position, Prepare, PrePrepare, RoundChange
from consensus.output import Committed, Output, Request, Send

AWAITING_PEERS: Final = "awaiting-peers"
"""Nothing is signed before a quorum has shown what it holds; the driver has it asked."""

M = TypeVar("M", PrePrepare, Prepare, Commit, RoundChange)


@dataclass(slots=True)
class Draft:
    """An `Output` in the making."""

    writes: list[WalRecord] = field(default_factory=list)
    sends: list[Send] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    commits: list[Committed] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    rejected: list[InvalidMessage] = field(default_factory=list)
    rounds: list[RoundEntry] = field(default_factory=list)

    def send(self, message: Message, to: Address | None = None) -> None:
        """Add a message to be sent; for several receivers it is encoded once."""
        data = next((send.data for send in self.sends if send.message is message), None)
        if data is None:
            data = encode_message(message)
        self.sends.append(Send(message=message, data=data, to=to))

    def finish(self, deadline_ns: int | None) -> Output:
        """Return the output."""
        return Output(
            writes=tuple(self.writes),
            sends=tuple(self.sends),
            requests=tuple(self.requests),
            commits=tuple(self.commits),
            evidence=tuple(self.evidence),
            rejected=tuple(self.rejected),
            rounds=tuple(self.rounds),
            deadline_ns=deadline_ns,
        )


class Signer:
    """A key, and what was signed with it.

    Parameters
    ----------
    key : SigningKey
        The key of `miner_id`.
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
        key: SigningKey,
        miner_id: Address,
        durable: DurableState,
        next_key: SigningKey | None = None,
    ) -> None:
        self.miner_id = miner_id
        self.durable = durable
        self.is_latest = False
        self._keys = {known.public: known for known in (key, next_key) if known is not None}

    def write(self, record: WalRecord, draft: Draft) -> None:
        """Make `record` part of what is remembered."""
        self.durable = self.durable.apply(record)
        draft.writes.append(record)

    def settle(self, height: Height) -> None:
        """Forget what concerns heights below `height`, where there is memory at all.

        Nothing is written: a log that still holds it says no less.
        """
        floor = self.durable.floor
        if floor is not None and height > floor:
            self.durable = self.durable.settled(height)

    def silence(self, config: HeightConfig) -> str | None:
        """Return why nothing at all is signed at this height, or None."""
        member = config.miners.get(self.miner_id)
        if member is None:
            return "observer"
        if member.key not in self._keys:
            return "key-replaced"
        if self.durable.floor is None:
            return "lost-memory"
        if not self.is_latest:
            return AWAITING_PEERS
        if config.height < max(self.durable.floor, self.durable.last.height):
            return "floor"
        return None

    def may_sign(self, position: Position, config: HeightConfig) -> bool:
        """Tell whether a message at `position` stands above everything signed so far."""
        return self.silence(config) is None and position > self.durable.last

    def sign(self, message: M, config: HeightConfig, draft: Draft) -> M:
        """Sign `message`, and have it written, then sent to all.

        `may_sign` must hold for its position.
        """
        position = Position(message.height, message.round, message.phase)
        assert self.may_sign(position, config), "a miner signs in order, and only with memory"
        member = config.miners.get(self.miner_id)
        assert member is not None, "a member signs"
        statement = message.statement(config.genesis_hash)
        signed = replace(message, signature=self._keys[member.key].sign(VOTE_TAG, statement))
        self.write(Signed(message=signed), draft)
        draft.send(signed)
        return signed
