"""How the miners' detectors do: counted on the chain, so that nobody can tell it otherwise.

Integers only. A false alarm is a flow that a miner called anomalous and the decision of a quorum
did not (`overruled`), or one of a device that its registrar has released (`released`).
"""

from dataclasses import replace

from chain.records.verdicts import DETECTOR_TABLE, DetectorRecord
from chain.state import Overlay
from chain.types import Address


def count_verdict(miner: Address, said: int, *, flows: int, is_late: bool, state: Overlay) -> None:
    """Count a verdict on so many flows: in `said` a bit for each, 1 is anomalous."""
    known = _record(miner, state)
    state.put(
        DETECTOR_TABLE,
        replace(
            known,
            verdicts=known.verdicts + 1,
            late=known.late + is_late,
            judged=known.judged + flows,
            anomalous=known.anomalous + said.bit_count(),
        ),
        miner,
    )


def count_outcome(miner: Address, said: int, outcome: int, state: Overlay) -> None:
    """Compare what a miner said of the flows of a block with what was decided, bit by bit."""
    overruled = (said & ~outcome).bit_count()
    missed = (outcome & ~said).bit_count()
    if overruled or missed:
        known = _record(miner, state)
        state.put(
            DETECTOR_TABLE,
            replace(known, overruled=known.overruled + overruled, missed=known.missed + missed),
            miner,
        )


def count_released(miner: Address, flows: int, state: Overlay) -> None:
    """Count flows that a registrar's release has overruled."""
    known = _record(miner, state)
    state.put(DETECTOR_TABLE, replace(known, released=known.released + flows), miner)


def _record(miner: Address, state: Overlay) -> DetectorRecord:
    return state.get(DETECTOR_TABLE, miner) or DetectorRecord()
