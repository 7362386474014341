"""Write the golden vectors in tests/vectors/, from which a client in any language can be tested.

Run it from the project's folder, ``python -m scripts.make_vectors``, after a change to the bytes;
such a change belongs into docs/spec/encoding.md and the CHANGELOG too. What a file holds is said by
the module of `scripts.vectors` about its subject.
"""

import json
from pathlib import Path
from typing import Any

from scripts.vectors.aggregation import aggregation
from scripts.vectors.algorithm_1 import algorithm_1
from scripts.vectors.digests import digests
from scripts.vectors.encoding import encoding
from scripts.vectors.files import files
from scripts.vectors.history import whole_chain
from scripts.vectors.rounds import federated
from scripts.vectors.signatures import keys, signatures
from scripts.vectors.transactions import transactions
from scripts.vectors.trees import blobs, merkle, state_tree

FOLDER = Path("tests/vectors")


def vectors() -> dict[str, Any]:
    """Return the documents by the names of their files."""
    return {
        "encoding.json": encoding(),
        "signatures.json": {"keys": keys(), "signatures": signatures()},
        "merkle.json": merkle(),
        "blobs.json": blobs(),
        "files.json": files(),
        "state_tree.json": state_tree(),
        "digests.json": digests(),
        "transactions.json": transactions(),
        "chain.json": whole_chain(),
        "algorithm_1.json": algorithm_1(),
        "aggregation.json": aggregation(),
        "federated.json": federated(),
    }


def render(document: Any) -> str:
    """Return the text of a file."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files."""
    for name, document in vectors().items():
        (FOLDER / name).write_text(render(document), encoding="utf-8")


if __name__ == "__main__":
    main()
