"""Transactions that a node signs with its miner's key and sends by itself: verdicts, evidence."""

from typing import Any

from chain.crypto import SigningKey
from chain.errors import SecureNetError
from chain.kinds.base import Kind
from chain.transactions import TRANSACTION_VERSION, Payload, sign_transaction
from chain.types import NONCE_SIZE, Address, Digest, TimestampMs
from node.intake import Intake
from node.ports import Clock, Random


class OwnTransactions:
    """Sends transactions in the miner's name.

    Parameters
    ----------
    key : SigningKey
        The key of `miner`.
    """

    def __init__(
        self,
        *,
        genesis_hash: Digest,
        intake: Intake,
        key: SigningKey,
        miner: Address,
        clock: Clock,
        random: Random,
    ) -> None:
        self._genesis_hash = genesis_hash
        self._intake = intake
        self._key = key
        self._miner = miner
        self._clock = clock
        self._random = random

    async def send(self, kind: Kind, body: Any) -> SecureNetError | None:
        """Sign a transaction and hand it in; return why it is refused, or None: it is pooled."""
        payload = Payload(
            version=TRANSACTION_VERSION,
            genesis_hash=self._genesis_hash,
            kind=kind.name,
            sender=self._miner,
            time_ms=TimestampMs(self._clock.wall_ms()),
            nonce=self._random.bytes(NONCE_SIZE),
            body=kind.body.encode(body),
        )
        transaction = sign_transaction(payload, self._key)
        (result,) = await self._intake.submit([transaction.wire])
        return result.error
