"""What the state holds of measures against devices, and of appeals against them."""

import re
from dataclasses import dataclass
from typing import Final

from chain.fields import DIGEST, HEIGHT, UNTIL_MS
from chain.records.policies import ACTIONS, RING_BITS
from chain.records.verdicts import ACCUSERS, Accuser
from chain.schema import Integer, Optional, Record, Text, Word
from chain.table import Table
from chain.types import Digest, Height

APPEAL_TEXT_SIZE_MAX: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Appeal:
    """What a device says against a measure.

    Parameters
    ----------
    transaction : Digest
        Id of its `device.appeal`.
    """

    transaction: Digest
    height: Height
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRecord:
    """The last measure that verdicts brought upon a device, and what came of it.

    Parameters
    ----------
    action : {"limit", "quarantine", "revoke"}
        What was done.
    height, until_ms : int
        The block in which it was done, and the block time at which it ends by itself; 0 is never.
    judged_height, model, judged : Height, Digest, Digest
        The judgement that led to it: of which block, by which model, and the digest of what was
        judged.
    anomalous, window : int
        So many of so many flows were anomalous.
    accusers : tuple of Accuser
        Of the tally at that moment.
    appeal : Appeal or None
        There is at most one against a measure, whatever the answer.
    answer : {"none", "refused", "released"}
        The registrar's last word.
    answered_height : Height or None
    """

    action: str
    height: Height
    until_ms: int
    judged_height: Height
    model: Digest
    judged: Digest
    anomalous: int
    window: int
    accusers: tuple[Accuser, ...]
    appeal: Appeal | None
    answer: str
    answered_height: Height | None

    @property
    def is_appealed(self) -> bool:
        """Whether an appeal waits for its answer."""
        return self.appeal is not None and self.answer == "none"


APPEAL_TEXT: Final = Text(
    APPEAL_TEXT_SIZE_MAX,
    minimum=1,
    pattern=re.compile(r"[^\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]+"),
)
"""One line for people: nothing in it that turns a terminal or the direction of writing."""
MEASURE_TABLE: Final = Table(
    b"measure/",
    Record(
        MeasureRecord,
        action=Word(*ACTIONS[1:]),
        height=HEIGHT,
        until_ms=UNTIL_MS,
        judged_height=HEIGHT,
        model=DIGEST,
        judged=DIGEST,
        anomalous=Integer(1, RING_BITS),
        window=Integer(1, RING_BITS),
        accusers=ACCUSERS,
        appeal=Optional(Record(Appeal, transaction=DIGEST, height=HEIGHT, text=APPEAL_TEXT)),
        answer=Word("none", "refused", "released"),
        answered_height=Optional(HEIGHT),
    ),
)
