"""The configuration of the height that follows a tip."""

from chain.eligibility import eligible_miners
from chain.parameters import Parameters
from chain.state import miner_sets_of, parameters_of
from chain.transition import Tip
from consensus.events import HeightConfig
from consensus.timers import Timing


def height_config(tip: Tip) -> HeightConfig:
    """Return who agrees at the next height, upon what, and in which time."""
    miners, next_miners = miner_sets_of(tip.state)
    return HeightConfig(
        height=tip.next_height,
        genesis_hash=tip.genesis_hash,
        miners=miners,
        next_miners=next_miners,
        eligible=eligible_miners(tip.state, miners, tip.next_height),
        parent=tip.header,
        timing=_timing(parameters_of(tip.state)),
    )


def _timing(parameters: Parameters) -> Timing:
    return Timing(
        round_timeout_ms=parameters.round_timeout_ms,
        round_timeout_increment_ms=parameters.round_timeout_step_ms,
        round_timeout_max_ms=parameters.round_timeout_max_ms,
        precision_ms=parameters.clock_precision_ms,
        message_delay_ms=parameters.message_delay_ms,
    )
