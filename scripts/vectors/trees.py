"""Vectors of the trees: Merkle trees of lists and blobs, the tree of the state."""

from typing import Any

from chain.blobs import CHUNK_SIZE, blob_digest, prove_chunk
from chain.merkle import MerkleTree, inclusion_proof, leaf_hash, merkle_root
from chain.state_tree import STATE_PROOF, StateTree
from scripts.vectors.hexes import hex_or_none, hexes


def merkle() -> list[dict[str, Any]]:
    """Return lists of leaves with their roots and the paths of all leaves."""
    cases = []
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 9):
        leaves = [bytes([number]) * number for number in range(count)]
        cases.append(
            {
                "leaves": hexes(leaves),
                "root": merkle_root(leaves).hex(),
                "paths": [hexes(inclusion_proof(leaves, index)) for index in range(count)],
            }
        )
    return cases


def blobs() -> list[dict[str, Any]]:
    """Return blobs whose byte i is i mod 251, with their digests and the path of the last chunk."""
    cases = []
    for size in (1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 3 * CHUNK_SIZE + 5):
        data = bytes(number % 251 for number in range(size))
        parts = [data[start : start + CHUNK_SIZE] for start in range(0, size, CHUNK_SIZE)]
        hashes = [leaf_hash(part) for part in parts]
        last = prove_chunk(size, MerkleTree(hashes), len(parts) - 1, parts[-1])
        cases.append(
            {
                "size": size,
                "digest": blob_digest(data).hex(),
                "root": last.root.hex(),
                "last_chunk": {"index": last.index, "path": hexes(last.path)},
            }
        )
    return cases


def state_tree() -> list[dict[str, Any]]:
    """Return maps with their roots and proofs, of present and of absent keys."""
    cases = []
    for count in (0, 1, 2, 3, 8):
        entries: dict[bytes, bytes | None] = {
            b"key/%d" % number: b"value %d" % number for number in range(count)
        }
        tree = StateTree().updated(entries)
        keys = [*entries, b"absent/1", b"absent/2"]
        cases.append(
            {
                "entries": [
                    {"key": key.hex(), "value": (value or b"").hex()}
                    for key, value in entries.items()
                ],
                "root": tree.root.hex(),
                "proofs": [
                    {
                        "key": key.hex(),
                        "value": hex_or_none(entries.get(key)),
                        "proof": STATE_PROOF.render(tree.prove(key)),
                    }
                    for key in keys
                ],
            }
        )
    return cases
