"""All targets by their names."""

from typing import Final

from tests.fuzz import (
    chain_targets,
    consensus_targets,
    data_targets,
    file_targets,
    node_targets,
    round_targets,
    rpc_target,
    signer_targets,
)
from tests.fuzz.campaign import Outcome, fuzz
from tests.fuzz.target import Target

TARGETS: Final[dict[str, Target]] = {
    target.name: target
    for module in (
        chain_targets,
        consensus_targets,
        node_targets,
        round_targets,
        signer_targets,
        rpc_target,
        file_targets,
        data_targets,
    )
    for target in module.targets()
}


def fuzz_named(name: str, inputs: int, seed: str) -> Outcome:
    """Run a campaign on one of them; for processes that share the work."""
    return fuzz(TARGETS[name], inputs=inputs, seed=seed)
