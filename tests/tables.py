"""All tables of the state; prefixes, keys and values of any of them are tested by this list."""

from typing import Any, Final

from chain.federated.records import (
    CLOSED_ROUNDS,
    OPEN_ROUNDS,
    REVEAL_TABLE,
    ROUND_TABLE,
    SHARES_TABLE,
)
from chain.parameters import PARAMETERS_TABLE
from chain.records.devices import DEVICE_TABLE
from chain.records.keys import KEY_TABLE
from chain.records.measures import MEASURE_TABLE
from chain.records.miners import ANCHOR_TABLE, EVIDENCE_TABLE, MINER_SETS, MINER_TABLE, PASSED_OVER
from chain.records.models import ACTIVE_MODELS, MODEL_TABLE
from chain.records.organisations import ORGANISATION_TABLE
from chain.records.policies import POLICY_TABLE
from chain.records.proposals import CLOSED_PROPOSALS, OPEN_PROPOSALS, PROPOSAL_TABLE
from chain.records.verdicts import DETECTOR_TABLE, JUDGEMENT_TABLE, TALLY_TABLE
from chain.table import Table

TABLES: Final[tuple[Table[Any], ...]] = (
    MINER_TABLE,
    KEY_TABLE,
    ANCHOR_TABLE,
    EVIDENCE_TABLE,
    MINER_SETS,
    PASSED_OVER,
    ORGANISATION_TABLE,
    DEVICE_TABLE,
    POLICY_TABLE,
    PARAMETERS_TABLE,
    TALLY_TABLE,
    MEASURE_TABLE,
    DETECTOR_TABLE,
    JUDGEMENT_TABLE,
    MODEL_TABLE,
    ACTIVE_MODELS,
    PROPOSAL_TABLE,
    OPEN_PROPOSALS,
    CLOSED_PROPOSALS,
    ROUND_TABLE,
    SHARES_TABLE,
    REVEAL_TABLE,
    OPEN_ROUNDS,
    CLOSED_ROUNDS,
)
"""Every table; no prefix is the beginning of another."""
