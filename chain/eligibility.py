"""Who proposes: rotation over the eligible miners, and passing over those that failed.

DESIGN rule 10: the proposer of a height and round rotates over the eligible miners E in ascending
order of their ids. docs/spec/consensus.md, section "Proposers", is normative.
"""

from collections.abc import Sequence

from chain.types import Address, Height, Round


def proposer_of(eligible: Sequence[Address], height: Height, round: Round) -> Address:
    """Return the miner that may propose at (`height`, `round`): ``E[(h + r) mod |E|]``."""
    return eligible[(height + round) % len(eligible)]
