"""Print what the bundled models say of flows, as digests, under the numpy that is found.

``python -m scripts.score_digests FLOWS`` reads what `scripts.numpy_versions` wrote and prints JSON:
the version of numpy, the vector instructions it uses, how many flows it judged, and for each model
and batch size the SHA-256 of the scores; and the same of aggregates of federated learning, for each
rule.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.payloads import Flow
from ml_validator.artifact import Artifact
from ml_validator.bundled import BUNDLED_NAMES, bundled_model
from ml_validator.features import NSL_KDD_SCHEMA
from ml_validator.federated.aggregation import Rule, aggregate, contribution
from ml_validator.federated.fixed_point import clipped
from ml_validator.federated.masking import keystream
from scripts.vectors.aggregation import aggregation

SIZES: Final = (1, 7, 4096)
AGGREGATES: Final = "federated aggregates"
AGGREGATED: Final = 12
AGGREGATED_PARAMETERS: Final = 5_000


def vector_features() -> tuple[list[str], list[str]]:
    """Return which vector instructions numpy can choose at run time, and which it has chosen."""
    # numpy has no public name for them, and renamed its core in 2.0.
    core: Any = getattr(np, "_core", None) or np.core
    module = core._multiarray_umath
    known = list(module.__cpu_dispatch__)
    return known, [name for name in known if module.__cpu_features__.get(name)]


def score_digest(artifact: Artifact, flows: Sequence[Flow], size: int) -> str:
    """Return the digest of the scores of `flows`, judged `size` at once."""
    digest = hashlib.sha256()
    for start in range(0, len(flows), size):
        rows = artifact.schema.rows(flows[start : start + size])
        digest.update(artifact.model.scores_ppm(rows).astype("<i8").tobytes())
    return digest.hexdigest()


def aggregate_digests() -> dict[str, str]:
    """Return for each rule the digest of an aggregate, and that of the golden vectors."""
    size = AGGREGATED * AGGREGATED_PARAMETERS
    words = keystream(hashlib.sha256(b"updates").digest(), size).view(np.int64)
    # Of all sizes up to what no sum of so many exceeds.
    sizes = np.arange(size) % 60
    updates = (words >> np.maximum(sizes, 6)).reshape(AGGREGATED, AGGREGATED_PARAMETERS)
    rows = [contribution(clipped(update, 2**56)) for update in updates]
    digests = {
        # The mean withstands nobody, and is asked for no more.
        rule.value: contribution(
            aggregate(rows, rule=rule, attackers=0 if rule is Rule.MEAN else 3)
        ).digest.hex()
        for rule in Rule
    }
    vectors = json.dumps(aggregation(), sort_keys=True).encode()
    return {**digests, "vectors": hashlib.sha256(vectors).hexdigest()}


def write_flows(path: Path, flows: Sequence[Flow]) -> None:
    """Write flows of NSL-KDD's schema, for `read_flows`."""
    path.write_text(json.dumps([[flow.integers, flow.categories] for flow in flows]))


def read_flows(path: Path) -> list[Flow]:
    """Read what `write_flows` wrote."""
    return [
        Flow(schema=NSL_KDD_SCHEMA.digest, integers=tuple(integers), categories=tuple(categories))
        for integers, categories in json.loads(path.read_text())
    ]


def main(arguments: Sequence[str]) -> int:
    """Print the digests of the flows in the file named; return the exit status."""
    flows = read_flows(Path(arguments[0]))
    known, used = vector_features()
    document = {
        "numpy": np.__version__,
        "dispatched": known,
        "used": used,
        "flows": len(flows),
        "digests": {
            name: {size: score_digest(bundled_model(name)[0], flows, size) for size in SIZES}
            for name in BUNDLED_NAMES
        }
        | {AGGREGATES: aggregate_digests()},
    }
    sys.stdout.write(json.dumps(document) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
