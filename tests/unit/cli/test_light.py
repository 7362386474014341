"""`securenet light verify` believes proofs and nothing else."""

import json

import pytest
from aiohttp import web

from chain.crypto import signing_key
from cli.demo.attack import reading
from cli.exit_codes import ExitCode
from cli.signing import device_sender

SENSOR = signing_key("ed25519", b"s" * 32)


@pytest.fixture
def committed(node):
    """Return the id of a committed reading."""
    node.register(SENSOR)
    sender = device_sender(node.chain.genesis, SENSOR, organisation="acme")
    transaction = sender.sign("device.data", reading(215))
    node.chain.commit([transaction])
    return transaction.id.hex()


@pytest.mark.parametrize("trusted", ["genesis", "block 1", "its own block"])
def test_a_committed_transaction_verifies_from_a_trusted_hash(securenet, node, committed, trusted):
    height = {"genesis": None, "block 1": 1, "its own block": 2}[trusted]
    trust = node.chain.genesis.hash if height is None else node.chain.blocks[height].header.hash

    ended = securenet("light", "verify", committed, "--trust", trust.hex(), "--json")

    assert ended.code == ExitCode.OK, ended.err
    assert ended.document["verified"] is True
    assert ended.document["height"] == 2


def test_a_hash_of_a_later_block_is_no_fault_of_the_node(securenet, node, committed):
    node.chain.commit([])
    later = node.chain.tip.header

    ended = securenet("light", "verify", committed, "--trust", later.hash.hex())

    assert ended.code == ExitCode.USAGE
    assert f"block 2, before the trusted block {later.height}" in ended.err
    assert "give --trust the hash of block 2 or an earlier one" in ended.err


@pytest.mark.parametrize(
    "forge",
    [
        lambda proof: proof["header"].update(state_root="00" * 32),
        lambda proof: proof["certificate"]["votes"].clear(),
        lambda proof: proof["certificate"]["votes"][0].update(signature="00" * 64),
        lambda proof: proof.update(index=1),
        lambda proof: proof.update(index="0"),
        lambda proof: proof.update(leaf_count=None),
        lambda proof: proof.update(receipt_leaf_count=1),
        lambda proof: proof.pop("receipt_leaf_count"),
        lambda proof: proof.update(miners=None),
        lambda proof: proof["miners"].append(proof["miners"][0]),
        lambda proof: proof["receipt"].update(index=1),
        lambda proof: proof.update(transaction=proof["transaction"][:-2] + "ff"),
        lambda proof: proof.pop("transaction_path"),
    ],
)
def test_a_forged_proof_is_refused(securenet, node, committed, forge):
    path = f"/v1/transactions/{committed}/proof"
    from urllib.request import urlopen

    with urlopen(node.url + path) as answer:
        proof = json.load(answer)
    forge(proof)
    node.overrides[path] = [web.json_response(proof)]

    ended = securenet("light", "verify", committed, "--trust", node.chain.genesis.hash.hex())

    assert ended.code == ExitCode.MISSED
    assert ended.out == ""


def test_a_hash_that_nobody_has_is_not_found(securenet, node, committed):
    ended = securenet("light", "verify", committed, "--trust", "ab" * 32)

    assert ended.code == ExitCode.NOT_FOUND


def test_a_transaction_that_is_not_committed_is_not_found(securenet, node):
    trust = node.chain.genesis.hash.hex()

    assert securenet("light", "verify", "ab" * 32, "--trust", trust).code == ExitCode.NOT_FOUND
