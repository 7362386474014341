"""Transactions that a node signs with its miner's key and sends by itself.

They are verdicts, evidence, and its part in federated rounds; a signer in a process of its own
signs these kinds and no others (`node.signer.keeper.SIGNED_KINDS`).
"""

from collections.abc import Sequence
from typing import Any

from chain.crypto import SigningKey
from chain.errors import Rejection, SecureNetError
from chain.kinds.base import Kind
from chain.records.miners import MINER_TABLE
from chain.state import State
from chain.transactions import (
    TRANSACTION_VERSION,
    Payload,
    Transaction,
    attach_signature,
    sign_transaction,
)
from chain.types import NONCE_SIZE, Address, Digest, PublicKey, TimestampMs
from node.errors import NotSigned
from node.intake import Intake
from node.ports import Clock, Random, RemoteSigner
from node.signer.keeper import SIGNED_KINDS


class OwnTransactions:
    """Sends transactions in the miner's name.

    Parameters
    ----------
    keys : sequence of SigningKey
        The keys of `miner`; that on record signs.
    signer : RemoteSigner, optional
        The process that has them instead.
    """

    def __init__(
        self,
        *,
        genesis_hash: Digest,
        state: State,
        intake: Intake,
        keys: Sequence[SigningKey],
        miner: Address,
        clock: Clock,
        random: Random,
        signer: RemoteSigner | None = None,
    ) -> None:
        self._genesis_hash = genesis_hash
        self._state = state
        self._intake = intake
        self._keys = {key.public: key for key in keys}
        self._miner = miner
        self._clock = clock
        self._random = random
        self._signer = signer

    async def send(self, kind: Kind, body: Any) -> SecureNetError | None:
        """Sign a transaction and hand it in; return why it is refused, or None: it is pooled."""
        assert kind.name in SIGNED_KINDS, "a signer elsewhere signs it as well"
        record = self._state.get(MINER_TABLE, self._miner)
        if record is None or (self._signer is None and record.key not in self._keys):
            return Rejection("not_permitted", "this node does not have the miner's key")
        payload = Payload(
            version=TRANSACTION_VERSION,
            genesis_hash=self._genesis_hash,
            kind=kind.name,
            sender=self._miner,
            time_ms=TimestampMs(self._clock.wall_ms()),
            nonce=self._random.bytes(NONCE_SIZE),
            body=kind.body.encode(body),
        )
        try:
            transaction = await self._sign(payload, record.key)
        except NotSigned as error:
            return error
        (result,) = await self._intake.submit([transaction.wire])
        return result.error

    async def _sign(self, payload: Payload, key: PublicKey) -> Transaction:
        if self._signer is None:
            return sign_transaction(payload, self._keys[key])
        return attach_signature(payload, await self._signer.sign(key, payload))
