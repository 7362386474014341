"""What a node says of a transaction, believed no more than its proofs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from chain.blocks import HEADER, RECEIPT, Header
from chain.certificate import CERTIFICATE
from chain.errors import DecodeError, InvalidCertificate, InvalidProof, UntrustedHeader
from chain.genesis import genesis_header, genesis_state
from chain.light_client import (
    InclusionProof,
    LightClient,
    verify_header,
    verify_receipt,
    verify_state,
    verify_transaction,
)
from chain.merkle import LEAVES_MAX
from chain.miners import MINERS, MinerSet
from chain.schema import Blob, Integer, ListOf, Optional
from chain.state import MemorySource, State
from chain.state_tree import STATE_PROOF
from chain.table import Table
from chain.transactions import TRANSACTION_SIZE_MAX, Transaction, decode_transaction
from chain.types import DIGEST_SIZE, Digest
from cli.client import Client, Document
from cli.errors import BadInput, Missed, Refused
from node.clock import SystemClock
from node.light_walk import Decided, walk

_PATH = ListOf(Blob(DIGEST_SIZE), 64)
_COUNT = Integer(0, LEAVES_MAX)
_VALUE: Final = Optional(Blob(0, 2**20))
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """A transaction that is proven to stand on a chain.

    Parameters
    ----------
    trusted : Header or None
        The header from which its block's was reached; None where the node was believed about that.
    """

    transaction: Transaction
    header: Header
    index: int
    trusted: Header | None


@contextmanager
def proofs_hold() -> Iterator[None]:
    """Raise `Missed` where a node's proofs, within the block, do not hold."""
    try:
        yield
    except (DecodeError, InvalidProof, InvalidCertificate, UntrustedHeader, KeyError) as error:
        raise Missed(
            f"the node's proof does not hold: {error}", "ask another node and compare what they say"
        ) from error


async def prove_transaction(client: Client, id: Digest, *, trust: Digest | None) -> Proven:
    """Return a committed transaction once the node has proven it.

    Parameters
    ----------
    trust : Digest or None
        Hash of a block, or of the genesis document, from which certificates have to lead to the
        transaction. None: whatever miners the node names are believed to be those of the chain.

    Raises
    ------
    BadInput
        The trusted block is later than the transaction's.
    DecodeError, InvalidProof, InvalidCertificate, UntrustedHeader, KeyError
        The proof does not hold; see `proofs_hold`.
    """
    trusted = None if trust is None else await _trusted_header(client, trust)
    proof = await client.get(f"/v1/transactions/{id.hex()}/proof")
    header = _header(proof["header"])
    if trusted is None:
        decided = _decided(proof)
        if decided.miners.hash != header.miner_set_hash:
            raise UntrustedHeader("these are not the miners that the header names")
        verify_header(header, decided.certificate, decided.miners)
    elif header.height < trusted.height:
        raise BadInput(
            f"the transaction is said to stand in block {header.height}, before the trusted block "
            f"{trusted.height}, and proofs lead forward only",
            f"give --trust the hash of block {header.height} or an earlier one, or of genesis",
        )
    else:
        await _reach(client, LightClient(trusted), proof)
    wire = Blob(1, TRANSACTION_SIZE_MAX).parse(proof["transaction"], "transaction")
    transaction = decode_transaction(wire)
    if transaction.id != id:
        raise InvalidProof("the proof is of another transaction")
    verify_transaction(header, transaction, _inclusion(proof, "leaf_count", "transaction_path"))
    receipt = RECEIPT.parse(proof["receipt"], "receipt")
    verify_receipt(header, receipt, _inclusion(proof, "receipt_leaf_count", "receipt_path"))
    return Proven(transaction=transaction, header=header, index=proof["index"], trusted=trusted)


class ProvenState:
    """Records of the state, believed no more than their proofs from a trusted hash on.

    Parameters
    ----------
    trust : Digest
        Hash of a block, or of the genesis document, from somebody who is trusted.
    """

    def __init__(self, client: Client, trust: Digest) -> None:
        self._client = client
        self._trust = trust
        self._light: LightClient | None = None

    async def record(self, path: str, table: Table[R], key: bytes) -> R | None:
        """Return what the state holds under `key`, by the proof that `path` answers with.

        Raises
        ------
        Missed
            The proof does not hold, or is of an older block than the one before.
        """
        with proofs_hold():
            if self._light is None:
                self._light = LightClient(await _trusted_header(self._client, self._trust))
            answer = await self._client.get(path)
            header, trusted = _header(answer["header"]), self._light.trusted
            if header.height < trusted.height:
                raise Missed(
                    f"the node's last block is {header.height}, and block {trusted.height} is "
                    "trusted already",
                    "wait until the node has caught up, or ask another",
                )
            await _reach(self._client, self._light, answer)
            value = _VALUE.parse(answer["value"], "value")
            proof = STATE_PROOF.parse(answer["proof"], "proof")
            verify_state(header, table.key(key), value, proof)
            return None if value is None else table.decode(value)


async def _trusted_header(client: Client, trust: Digest) -> Header:
    """Return the header that the trusted hash is of; whatever the node says is checked by it."""
    genesis = await client.genesis()
    if genesis.hash == trust:
        return genesis_header(genesis, State(MemorySource(genesis_state(genesis))).root)
    try:
        block = await client.block(trust.hex())
    except Refused as refusal:
        if refusal.status == 404:
            refusal.advice = (
                "correct --trust, or ask a node that has the block of that hash (--rpc)"
            )
        raise
    header = _header(block["header"])
    if header.hash != trust:
        raise UntrustedHeader("the node gives another header for the trusted hash")
    return header


async def _reach(client: Client, light: LightClient, proof: Document) -> None:
    """Make `light` trust the header of a proof, which is not earlier."""
    if _header(proof["header"]) != light.trusted:
        await walk(
            light,
            _decided(proof),
            decided=partial(_ask_decided, client),
            now_ms=SystemClock().wall_ms(),
        )


async def _ask_decided(client: Client, height: int) -> Decided:
    return _decided(await client.get(f"/v1/blocks/{height}/proof"))


def _decided(proof: Document) -> Decided:
    if proof["miners"] is None:
        raise UntrustedHeader("the node does not keep who decided that height")
    return Decided(
        header=_header(proof["header"]),
        certificate=CERTIFICATE.parse(proof["certificate"], "certificate"),
        miners=MinerSet(MINERS.parse(proof["miners"], "miners")),
    )


def _header(document: Any) -> Header:
    if isinstance(document, dict):
        document = {name: value for name, value in document.items() if name != "hash"}
    return HEADER.parse(document, "header")


def _inclusion(proof: Document, count: str, path: str) -> InclusionProof:
    return InclusionProof(
        index=_COUNT.parse(proof["index"], "index"),
        leaf_count=_COUNT.parse(proof[count], count),
        path=tuple(Digest(item) for item in _PATH.parse(proof[path], path)),
    )
