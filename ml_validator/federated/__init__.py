"""Learning together without sharing data: the arithmetic, outside of the chain.

What miners have to compute alike is in integers: fixed point, masks, shares, sums of groups,
aggregation rules, the union of forests. What a participant does with its own data, and the
comparison of federated with central training, needs scikit-learn and is not imported here.
docs/spec/aggregation.md is normative.
"""

from ml_validator.federated.aggregation import (
    Contribution,
    Rule,
    aggregate,
    contribution,
    group_size_max,
    without_copies,
)
from ml_validator.federated.fixed_point import (
    UpdateRules,
    decode_update,
    decode_words,
    encode_update,
    prepared,
    to_floats,
)
from ml_validator.federated.forest_union import honest_forests, union
from ml_validator.federated.group_sum import GroupInput, group_mean, group_sum
from ml_validator.federated.masking import Group
from ml_validator.federated.on_chain import (
    aggregate_of,
    contribution_of,
    group_of,
    join,
    kinds_to_reveal,
    read_update,
    rules_of,
)
from ml_validator.federated.round_secrets import RoundSecrets
from ml_validator.federated.share_box import to_reveal

__all__ = [
    "Contribution",
    "Group",
    "GroupInput",
    "RoundSecrets",
    "Rule",
    "UpdateRules",
    "aggregate",
    "aggregate_of",
    "contribution",
    "contribution_of",
    "decode_update",
    "decode_words",
    "encode_update",
    "group_mean",
    "group_of",
    "group_size_max",
    "group_sum",
    "honest_forests",
    "join",
    "kinds_to_reveal",
    "prepared",
    "read_update",
    "rules_of",
    "to_floats",
    "to_reveal",
    "union",
    "without_copies",
]
