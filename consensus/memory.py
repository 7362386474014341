"""What a miner asks of the others about its own memory (DESIGN rule 6).

Whoever has forgotten what it signed must stay silent until every height at which it may have
signed is decided; and whoever starts may have forgotten without knowing, for an older copy of a log
looks like a log. docs/spec/consensus.md, sections "Lost memory" and "Start", has the arguments.
"""

from collections.abc import Collection, Mapping
from typing import Final

from chain.miners import MinerSet
from chain.types import Address, Height, PublicKey
from consensus.draft import Draft
from consensus.durable import Floor, LostMemory
from consensus.errors import NotAMember
from consensus.events import HeightConfig
from consensus.height import HeightState
from consensus.messages import Message, position_of
from consensus.signatures import check_signature, is_of_member
from consensus.signer import Signer

SILENT_HEIGHTS: Final = 2
"""For so many heights, that one included, a miner is silent from a forgotten signature on."""


class Memory:
    """What members have told this miner since it started, and what follows for its signer.

    Attributes
    ----------
    reports : dict of Address to Height
        The highest heights that members said they work on, at most one for each.
    """

    def __init__(self, signer: Signer) -> None:
        self._me = signer.miner_id
        self._signer = signer
        self.reports: dict[Address, Height] = {}
        # The first that each of them said: whatever this miner forgot, it signed before.
        self._first: dict[Address, Height] = {}
        self._shown: dict[Address, Height] = {}

    def start(self, config: HeightConfig, draft: Draft) -> None:
        """Ask anew, at a height that begins; forget who is no member of it or of the next."""
        self.reports = {m: at for m, at in self.reports.items() if _is_known(m, config)}
        self._first = {m: at for m, at in self._first.items() if m in self.reports}
        self._shown = {m: at for m, at in self._shown.items() if m in config.miners}
        self._set_floor(config, draft)
        self._trust(config)

    def on_own(self, message: Message, state: HeightState, draft: Draft) -> None:
        """Compare a message in this miner's name with what it remembers (DESIGN rule 6)."""
        durable = self._signer.durable
        if self._me not in state.config.miners:
            raise NotAMember(message.sender, "not a miner of this height")
        if message.height < state.config.height or position_of(message) <= durable.last:
            return
        if durable.floor is None and message.height <= durable.lost_height:
            return
        if message.height == state.config.height:
            check_signature(message, state)
        elif not is_of_member(message, state):
            return
        self._signer.write(LostMemory(height=message.height), draft)
        self._set_floor(state.config, draft)

    def on_height_seen(
        self, miner: Address, height: Height, config: HeightConfig, draft: Draft
    ) -> None:
        """Take note of the height that a member, of this height or the next, works on."""
        if miner != self._me and _is_known(miner, config):
            self.reports[miner] = max(height, self.reports.get(miner, height))
            self._first.setdefault(miner, height)
            self._set_floor(config, draft)

    def on_shown(self, miner: Address, height: Height, config: HeightConfig) -> None:
        """Take note that a member at `height` has shown all that it holds of this miner."""
        if miner != self._me and miner in config.miners:
            self._shown[miner] = height
            self._trust(config)

    def on_signer_seen(
        self, keys: Collection[PublicKey], remembers: bool, config: HeightConfig, draft: Draft
    ) -> None:
        """Meet the process that has the key; where it does not remember, nobody does."""
        self._signer.meet(keys)
        if not remembers:
            # Another node may have had the same key sign since they were told.
            self._first.clear()
            self._signer.write(LostMemory(height=config.height), draft)
            self._set_floor(config, draft)

    def _set_floor(self, config: HeightConfig, draft: Draft) -> None:
        """End the silence of a miner without memory as soon as it knows until when it lasts.

        Also at the height before it is a member: the one at which it becomes one may need it.
        """
        durable = self._signer.durable
        if durable.floor is not None or self._me not in config.next_miners:
            return
        following = Height(config.height + 1)
        for height, miners in ((config.height, config.miners), (following, config.next_miners)):
            if was_undecided(height, miners, self._first, self._me):
                floor = Height(max(height + 1, durable.lost_height + SILENT_HEIGHTS))
                self._signer.write(Floor(height=floor), draft)
                self._signer.owes(floor, draft)
                return

    def _trust(self, config: HeightConfig) -> None:
        """Take the log for the latest once a quorum has shown what it holds of this miner."""
        if not self._signer.is_latest and self._me in config.miners:
            self._signer.is_latest = has_heard_enough(
                self._shown, config.miners, self._me, config.height
            )


def was_undecided(
    height: Height, miners: MinerSet, told: Mapping[Address, Height], me: Address
) -> bool:
    """Tell whether this miner signed nothing above `height` before others told where they are.

    Parameters
    ----------
    miners : MinerSet
        The set of `height`.
    told : mapping of Address to Height
        The heights that others have said, since this miner started, that they work on.

    Notes
    -----
    So it is where ``k = n - q + f + 1`` members but this one have told, and the k-th lowest of what
    they told is below `height`: of a quorum that had voted for a block there, an honest member
    would be among them, even if this one was of it and f others lie. A single miner has nobody to
    ask: only the operator's explicit floor helps.
    """
    needed = len(miners) - miners.quorum + miners.f + 1
    known = sorted(at for miner, at in told.items() if miner in miners and miner != me)
    return needed <= len(known) and known[needed - 1] < height


def has_heard_enough(
    shown: Mapping[Address, Height], miners: MinerSet, me: Address, height: Height
) -> bool:
    """Tell whether a miner that has started may take its log for the latest.

    Parameters
    ----------
    shown : mapping of Address to Height
        The members that have, since this miner started, shown what they hold of its signatures,
        and the heights that they worked on meanwhile.
    height : Height
        The height that this miner itself works on.

    Notes
    -----
    It has where a quorum, itself included, has shown it at this height or below. Waiting for so
    many costs nothing: with fewer nobody decides anything. And it is behind nobody then, so that it
    signs nothing for a height that is settled.
    """
    told = [miner for miner, at in shown.items() if miner in miners and at <= height]
    return len({*told, me}) >= miners.quorum


def _is_known(miner: Address, config: HeightConfig) -> bool:
    return miner in config.miners or miner in config.next_miners
