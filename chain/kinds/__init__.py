"""The table of transaction kinds. A further kind is a module and its line here."""

from typing import Final

from chain.kinds import (
    appeal,
    device_data,
    device_registry,
    evidence,
    miners,
    models,
    organisations,
    parameter_change,
    participation,
    policy,
    rounds,
    verdict,
)
from chain.kinds.base import Kind
from chain.kinds.vote import vote_kind

KINDS: Final[dict[str, Kind]] = {
    kind.name: kind
    for kind in (
        organisations.KIND,
        miners.KIND,
        parameter_change.KIND,
        models.ACTIVATE,
        evidence.KIND,
        device_registry.REGISTER,
        device_registry.UPDATE,
        device_registry.RELEASE,
        appeal.KIND,
        policy.KIND,
        models.REGISTER,
        rounds.OPEN,
        rounds.ABORT,
        rounds.ATTEST,
        rounds.AGGREGATE,
        participation.JOIN,
        participation.SHARE,
        participation.COMMIT,
        participation.REVEAL,
        participation.COMPLAINT,
        verdict.KIND,
        device_data.KIND,
    )
}
"""Every kind by its name."""

_VOTE: Final = vote_kind(KINDS)
KINDS[_VOTE.name] = _VOTE
