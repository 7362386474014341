"""A model as one C99 file: tables and some forty lines of code, without heap, floats or library.

A forest keeps the breadth-first order of its artefact. A bit for each node says whether it is a
split, and the number of splits before a node is counted from there, with a count to start from
every eight nodes. A tree of S splits has 2S + 1 nodes; so the left child of split k, counted over
all trees, is node 2k + t + 1 for the tree t, and no index of a child is stored. That takes half of
what the artefact does. docs/spec/ml.md, section "Exports".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from ml_validator.artifact import Artifact
from ml_validator.errors import UnexportableModel
from ml_validator.features import FeatureSchema
from ml_validator.forest import LEAF, Forest
from ml_validator.linear import EVEN_PPM, FRACTION_BITS, Linear
from ml_validator.verdicts import SCORE_PPM_MAX, TREE_VOTES

SMALL_MAX: Final = 2**15 - 1
"""Thresholds up to this stand in the table of splits; larger ones in a table of their own."""

_LARGE_MAX: Final = 2**15
"""Different larger thresholds that a file can have."""

_OWN_NAMES: Final = (
    "before", "cap", "column", "feature", "is_anomalous", "is_split", "large", "nodes", "score_ppm",
    "splits_before", "threshold", "values", "votes", "weight",
)  # fmt: skip
_NODES_IN_A_BYTE: Final = 8
_LINE_LENGTH_MAX: Final = 96
_INTEGER_BYTES: Final = 8
_CATEGORY_BYTES: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class CSource:
    """A C99 file.

    Parameters
    ----------
    text : str
        The file, in ASCII.
    prefix : str
        What the names of its functions and constants begin with.
    table_bytes : int
        Size of its constant tables.
    input_bytes : int
        Memory that one flow takes at the caller's.
    """

    text: str
    prefix: str
    table_bytes: int
    input_bytes: int


def to_c(artifact: Artifact, *, name: str) -> CSource:
    """Write a model as C.

    Parameters
    ----------
    name : str
        For people; names in the file are made from it.

    Raises
    ------
    UnexportableModel
        More large thresholds than a file can have.
    """
    prefix = _identifier(name)
    tables = _Tables(prefix)
    if isinstance(artifact.model, Forest):
        body = _forest(artifact.model, artifact.schema, tables)
    else:
        body = _linear(artifact.model, artifact.schema, tables)
    parts = (
        _head(artifact, prefix),
        f"#ifndef {prefix.upper()}_DECLARATIONS_ONLY\n",
        *tables.texts,
        body,
        _label(prefix),
        "#endif\n",
    )
    return CSource(
        text="\n".join(parts),
        prefix=prefix,
        table_bytes=tables.size_bytes,
        input_bytes=_INTEGER_BYTES * len(artifact.schema.integers)
        + _CATEGORY_BYTES * len(artifact.schema.categories),
    )


class _Tables:
    """The constant arrays of a file, each of the smallest type that holds it."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.texts: list[str] = []
        self.size_bytes = 0

    def add(self, name: str, values: Sequence[int], *, comment: str, bits: int = 0) -> None:
        """Add an array; unsigned of 8, 16 or 32 bits, or signed of `bits`.

        C has no empty arrays: one that would be, and is never read, gets a 0.
        """
        values = values or [0]
        signed = bits > 0
        if not signed:
            bits = next(size for size in (8, 16, 32) if max(values) < 2**size)
        texts = [f"INT64_C({value})" if bits == 64 else str(value) for value in values]
        kind = f"{'' if signed else 'u'}int{bits}_t"
        self.texts.append(
            f"/* {comment} */\n"
            f"static const {kind} {self.prefix}_{name}[{len(values)}] = {{\n{_wrap(texts)}}};\n"
        )
        self.size_bytes += len(values) * bits // 8


def _forest(forest: Forest, schema: FeatureSchema, tables: _Tables) -> str:
    splits = forest.feature != LEAF
    thresholds = forest.value[splits]
    large = np.unique(thresholds[thresholds > SMALL_MAX])
    if len(large) > _LARGE_MAX:
        raise UnexportableModel(f"{len(large)} thresholds above {SMALL_MAX}, at most {_LARGE_MAX}")
    codes = np.where(
        thresholds > SMALL_MAX, SMALL_MAX + 1 + np.searchsorted(large, thresholds), thresholds
    )
    before = np.cumsum(splits) - splits
    bits = np.packbits(splits, bitorder="little")
    tables.add("nodes", forest.sizes.tolist(), comment="Nodes of each tree.")
    tables.add("is_split", bits.tolist(), comment="A bit for each node, the lowest first.")
    tables.add(
        "before", before[::_NODES_IN_A_BYTE].tolist(), comment="Splits before the node of bit 0."
    )
    tables.add("feature", forest.feature[splits].tolist(), comment="Column of each split.")
    tables.add(
        "threshold", codes.tolist(), comment=f"Of each split; from {SMALL_MAX + 1} on, a place."
    )
    tables.add("large", large.tolist(), comment="Thresholds that need more bits.", bits=32)
    tables.add("votes", forest.value[~splits].tolist(), comment="Votes of each leaf.")
    prefix = tables.prefix
    return f"""\
{_column(schema, prefix)}
static uint32_t {prefix}_splits_before(uint32_t node)
{{
    uint32_t count = {prefix}_before[node / {_NODES_IN_A_BYTE}u];
    uint32_t bits = {prefix}_is_split[node / {_NODES_IN_A_BYTE}u];
    bits &= (1u << node % {_NODES_IN_A_BYTE}u) - 1u;
    for (; bits != 0; bits &= bits - 1u) {{
        count++;
    }}
    return count;
}}

int32_t {prefix}_score_ppm(const int64_t *integers, const int16_t *categories)
{{
    uint32_t tree, root = 0, votes = 0;
{_refusal(schema)}\
    for (tree = 0; tree < {forest.tree_count}u; tree++) {{
        uint32_t node = root;
        uint32_t split = {prefix}_splits_before(node);
        while ({prefix}_is_split[node / {_NODES_IN_A_BYTE}u] >> node % {_NODES_IN_A_BYTE}u & 1u) {{
            int32_t threshold = {prefix}_threshold[split];
            if (threshold > {SMALL_MAX}) {{
                threshold = {prefix}_large[threshold - {SMALL_MAX + 1}];
            }}
            node = 2u * split + tree + 1u;
            if ({prefix}_column(integers, categories, {prefix}_feature[split]) > threshold) {{
                node++;
            }}
            split = {prefix}_splits_before(node);
        }}
        votes += {prefix}_votes[node - split];
        root += {prefix}_nodes[tree];
    }}
    return (int32_t)(votes * {SCORE_PPM_MAX // TREE_VOTES}u / {forest.tree_count}u);
}}
"""


def _linear(model: Linear, schema: FeatureSchema, tables: _Tables) -> str:
    # A column with a cap of 0 adds nothing, whatever its weight; that may be one C cannot write.
    weights = np.where(model.cap > 0, model.weight, 0)
    tables.add("weight", weights.tolist(), comment="Of each column.", bits=64)
    tables.add("cap", model.cap.tolist(), comment="Of each column.", bits=32)
    tables.add(
        "values",
        [len(category.values) for category in schema.categories],
        comment="Values of each category.",
    )
    prefix = tables.prefix
    return f"""\
int32_t {prefix}_score_ppm(const int64_t *integers, const int16_t *categories)
{{
    int64_t margin = INT64_C({int(model.bias[0])});
    int32_t i, start = {len(schema.integers)};
{_refusal(schema)}\
    for (i = 0; i < {len(schema.integers)}; i++) {{
        int64_t cap = {prefix}_cap[i];
        margin += {prefix}_weight[i] * (integers[i] < cap ? integers[i] : cap);
    }}
    for (i = 0; i < {len(schema.categories)}; i++) {{
        int32_t at = categories[i];
        if (at >= 0 && at < {prefix}_values[i] && {prefix}_cap[start + at] > 0) {{
            margin += {prefix}_weight[start + at];
        }}
        start += {prefix}_values[i];
    }}
    /* Rounded down on both sides of 0. */
    if (margin >= 0) {{
        margin /= INT64_C({2**FRACTION_BITS});
    }} else {{
        margin = -((-margin + INT64_C({2**FRACTION_BITS - 1})) / INT64_C({2**FRACTION_BITS}));
    }}
    margin += {EVEN_PPM};
    return (int32_t)(margin < 0 ? 0 : margin > {SCORE_PPM_MAX} ? {SCORE_PPM_MAX} : margin);
}}
"""


def _refusal(schema: FeatureSchema) -> str:
    return f"""\
    {{
        int32_t at;
        for (at = 0; at < {len(schema.integers)}; at++) {{
            if (integers[at] < 0) {{
                return {SCORE_PPM_MAX}; /* No honest device has it: unreadable. */
            }}
        }}
    }}
"""


def _column(schema: FeatureSchema, prefix: str) -> str:
    lines = []
    start = len(schema.integers)
    if start:
        lines += [f"    if (at < {start}u) {{", "        return integers[at];", "    }"]
    for place, category in enumerate(schema.categories):
        stop = start + len(category.values)
        if stop == start:
            # No column is its: below 0 is what a compiler calls nonsense.
            continue
        lines += [
            f"    if (at < {stop}u) {{",
            f"        return categories[{place}] == (int32_t)(at - {start}u);",
            "    }",
        ]
        start = stop
    inside = "\n".join(lines)
    return f"""\
static int64_t {prefix}_column(const int64_t *integers, const int16_t *categories, uint32_t at)
{{
    (void)integers;
    (void)categories;
{inside}
    return 0;
}}
"""


def _head(artifact: Artifact, prefix: str) -> str:
    schema = artifact.schema
    integers = "\n".join(
        f"     {place} {_plain(column.name)}, {column.unit}"
        + (f" in 1/{column.scale}" if column.scale > 1 else "")
        for place, column in enumerate(schema.integers)
    )
    return f"""\
/* A detector of anomalous flows, written by "securenet model export".

   model    {artifact.digest.hex()}
   features {schema.digest.hex()}

   A flow is {len(schema.integers)} integers and {len(schema.categories)} categories.
   Integers, each 0 or more:
{integers}
   A category is the place of its value, from 0 as below; any other number, as -1, stands for a
   value that the model does not know. A flow with an integer below 0 has the highest score.

   With {prefix.upper()}_DECLARATIONS_ONLY defined, the file is a header. */

#include <stdint.h>

#define {prefix.upper()}_THRESHOLD_PPM {artifact.threshold_ppm}
#define {prefix.upper()}_INTEGERS {len(schema.integers)}
#define {prefix.upper()}_CATEGORIES {len(schema.categories)}

{_enums(schema, prefix)}
/* How suspicious a flow is, in parts per million. */
int32_t {prefix}_score_ppm(const int64_t *integers, const int16_t *categories);

/* 1 if the score has reached the threshold, else 0. */
int {prefix}_is_anomalous(const int64_t *integers, const int16_t *categories);
"""


def _enums(schema: FeatureSchema, prefix: str) -> str:
    texts = []
    taken = {f"{prefix}_{name}" for name in _OWN_NAMES}
    for category in schema.categories:
        names = []
        for place, value in enumerate(category.values):
            name = f"{prefix}_{_plain(category.name)}_{_plain(value)}"
            while name in taken:
                name += "_"
            taken.add(name)
            names.append(f"{name} = {place}")
        if names:
            texts.append(f"enum {{ /* {_plain(category.name)} */\n{_wrap(names)}}};\n")
    return "\n".join(texts)


def _label(prefix: str) -> str:
    return f"""\
int {prefix}_is_anomalous(const int64_t *integers, const int16_t *categories)
{{
    return {prefix}_score_ppm(integers, categories) >= {prefix.upper()}_THRESHOLD_PPM;
}}
"""


def _identifier(name: str) -> str:
    plain = _plain(name).lower()
    return plain if plain[:1].isalpha() else f"model_{plain}"


def _plain(text: str) -> str:
    """Return `text` with letters, digits and underscores alone: nothing in it ends a comment."""
    return re.sub(r"[^A-Za-z0-9_]", "_", text)


def _wrap(texts: Sequence[str]) -> str:
    lines = [""]
    for text in texts:
        if len(lines[-1]) + len(text) + 1 > _LINE_LENGTH_MAX:
            lines.append("")
        lines[-1] += f" {text}," if lines[-1] else f"    {text},"
    return "".join(f"{line}\n" for line in lines)
