"""Whether honest miners keep the rules of agreement, seen from outside.

Agreement itself breaks only in rare worlds, long after the rule that should have kept it was
broken. So each message that an honest miner signs is judged as it leaves: was there a reason for
it? The rules are written down here a second time, on purpose and in the plainest way, so that a bug
in `consensus` is not judged by itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from chain.certificate import VOTE_TAG, VoteType, vote_bytes
from chain.crypto import verify
from chain.errors import DecodeError
from chain.miners import MinerSet
from chain.state import miner_sets_of
from chain.types import Address, Digest, Height, Round
from consensus.codec import decode_message
from consensus.messages import Commit, Message, Prepare, PrePrepare, RoundChange
from tests.simulation.checkers import Ledger, Violation

KEPT_HEIGHTS: Final = 4
"""What was heard of so many heights below the last that was signed for is kept."""

Place = tuple[Height, Round, Digest]


@dataclass(slots=True)
class _Heard:
    """What has reached one node, over all its restarts; a node may have forgotten some of it."""

    prepares: dict[Place, set[Address]] = field(default_factory=dict)
    proposals: dict[Place, list[PrePrepare]] = field(default_factory=dict)

    def forget_below(self, height: int) -> None:
        for known in (self.prepares, self.proposals):
            for place in [place for place in known if place[0] < height]:
                del known[place]


class Conduct:
    """Nobody honest votes without a reason, or forgets what it was prepared for.

    Parameters
    ----------
    ledger : Ledger
        Says who decides a height.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._miners: dict[int, MinerSet] = {}
        self._heard: dict[str, _Heard] = {}
        self._committed: dict[tuple[Address, Height], Round] = {}

    def on_delivered(self, node: str, data: bytes) -> None:
        """Take note of a message of consensus that reaches a node."""
        # A message is an array of its type and its fields, so the type's name is in front.
        if data[2:9] not in (b"prepare", b"pre-pre"):
            return
        try:
            message = decode_message(data)
        except DecodeError:
            return
        self._note(node, message)

    def on_signed(self, node: str, message: Message) -> None:
        """Judge a message when an honest miner shows it for the first time."""
        self._note(node, message)
        miners = self._miners_of(message.height)
        if miners is None:
            return
        heard = self._heard[node]
        match message:
            case RoundChange():
                self._check_memory(node, message)
            case Prepare() if message.round > 0:
                proposals = heard.proposals.get(_place(message), [])
                faults = [self._fault(proposal, miners) for proposal in proposals]
                if all(fault is not None for fault in faults):
                    raise Violation(
                        f"{node} attests {_place_text(message)} for no reason: {faults}"
                    )
            case Commit():
                voters = heard.prepares.get(_place(message), set())
                if len([m for m in voters if m in miners]) < quorum_of(len(miners)):
                    raise Violation(
                        f"{node} commits to {_place_text(message)} on {len(voters)} PREPAREs"
                    )
                self._committed[message.sender, message.height] = message.round
        heard.forget_below(message.height - KEPT_HEIGHTS)
        for key in [key for key in self._committed if key[1] < message.height - KEPT_HEIGHTS]:
            del self._committed[key]

    def _note(self, node: str, message: Message) -> None:
        heard = self._heard.setdefault(node, _Heard())
        if isinstance(message, Prepare):
            heard.prepares.setdefault(_place(message), set()).add(message.sender)
        elif isinstance(message, PrePrepare):
            heard.proposals.setdefault(_place(message), []).append(message)

    def _miners_of(self, height: int) -> MinerSet | None:
        """Return who decides `height`: known from the moment on when its first vote is cast."""
        if height not in self._miners and self._ledger.height == height - 1:
            self._miners[height], _ = miner_sets_of(self._ledger.tip.state)
            self._miners.pop(height - KEPT_HEIGHTS, None)
        return self._miners.get(height)

    def _check_memory(self, node: str, message: RoundChange) -> None:
        committed = self._committed.get((message.sender, message.height))
        if committed is None:
            return
        if message.prepared_round is None or message.prepared_round < committed:
            raise Violation(
                f"{node} has sent COMMIT in round {committed} of {message.height} and reports to "
                f"be prepared in {message.prepared_round}"
            )

    def _fault(self, proposal: PrePrepare, miners: MinerSet) -> str | None:
        """Return why a proposal of a later round is not justified, or None."""
        justification = proposal.justification
        if justification is None:
            return "no justification"
        reported = [
            message
            for message in justification.round_changes
            if (message.height, message.round) == (proposal.height, proposal.round)
            and self._is_signed(message, miners)
        ]
        if len({message.sender for message in reported}) < quorum_of(len(miners)):
            return "no quorum of ROUND-CHANGEs"
        prepared = [m.prepared_round for m in reported if m.prepared_round is not None]
        if not prepared:
            return None
        certificate = justification.certificate
        if certificate is None or certificate.round != max(prepared):
            return "no certificate of the highest prepared round"
        if certificate.digest != proposal.digest:
            return "another block than the one prepared"
        statement = vote_bytes(
            genesis_hash=self._genesis_hash,
            type=VoteType.PREPARE,
            height=proposal.height,
            round=certificate.round,
            digest=certificate.digest,
        )
        voters = {
            vote.index
            for vote in certificate.votes
            if vote.index < len(miners)
            and verify(miners.members[vote.index].key, VOTE_TAG, statement, vote.signature)
        }
        return None if len(voters) >= quorum_of(len(miners)) else "no quorum of PREPAREs"

    @property
    def _genesis_hash(self) -> Digest:
        return self._ledger.tip.genesis_hash

    def _is_signed(self, message: RoundChange, miners: MinerSet) -> bool:
        member = miners.get(message.sender)
        statement = message.statement(self._genesis_hash)
        return member is not None and verify(member.key, VOTE_TAG, statement, message.signature)


class BlockTimes:
    """No block comes from a future that no honest clock has shown.

    Parameters
    ----------
    precision_ms : int
        How far ahead of a miner's clock a block may be that it votes for.
    """

    def __init__(self, precision_ms: int) -> None:
        self._precision_ms = precision_ms
        self._latest_ms = 0

    def on_clocks(self, shown_ms: Iterable[int]) -> None:
        """Take note of the clocks when a proposal arrives, by one of which it is judged."""
        self._latest_ms = max(self._latest_ms, *shown_ms)

    def on_committed(self, node: str, time_ms: int) -> None:
        """Judge the time of a block."""
        if time_ms > self._latest_ms + self._precision_ms:
            raise Violation(
                f"{node} commits a block {time_ms - self._latest_ms} ms ahead of every clock"
            )


def quorum_of(n: int) -> int:
    """Return the least number of which any two sets among `n` share an honest one.

    Two sets of q share 2q - n at least, of whom f may lie.
    """
    f = (n - 1) // 3
    return next(q for q in range(1, n + 1) if 2 * q - n > f)


def _place(message: Prepare | Commit | PrePrepare) -> Place:
    return message.height, message.round, message.digest


def _place_text(message: Prepare | Commit) -> str:
    return f"{message.digest.hex()[:12]} in ({message.height}, {message.round})"
