"""The keys of a miner, and what they may still sign: the judgement of a signer's process."""

from collections.abc import Sequence
from typing import Final

import structlog

from chain.certificate import VOTE_TAG
from chain.crypto import SigningKey
from chain.errors import DecodeError
from chain.kinds import KINDS
from chain.transactions import PAYLOAD, SIGNATURE_TAG
from chain.types import Digest
from consensus.durable import Floor
from consensus.key_memory import (
    KeyRecord,
    SignedStatement,
    decode_key_record,
    encode_key_record,
    read_statement,
    recover_keys,
)
from node.ports import Log
from node.signer.wire import (
    KIND,
    MALFORMED,
    PAYLOAD_SIZE_MAX,
    SIGNER_PROTOCOL,
    UNKNOWN_KEY,
    WRONG_CHAIN,
    Answer,
    Hello,
    Question,
    Refusal,
    SetFloor,
    SignTransaction,
    SignVote,
)

LOG_RECORDS_MAX: Final = 4_096
"""After so many records the log is rewritten with the few that are still needed."""

SIGNED_KINDS: Final = ("verdict", "evidence", "round.attest", "round.aggregate")
"""The transactions that a node sends in its miner's name by itself. For all others, as proposals
and votes of the miners, somebody takes the key in hand."""

log = structlog.get_logger(__name__)


class KeyKeeper:
    """Signs for nodes what contradicts nothing that was signed before.

    Parameters
    ----------
    keys : sequence of SigningKey
        The miner's key, and perhaps the one that is to take its place. They share one memory.
    journal : Log
        What was signed; written before the signature exists.

    Raises
    ------
    DecodeError
        The log holds a record that no signer wrote.
    """

    def __init__(self, *, genesis_hash: Digest, keys: Sequence[SigningKey], journal: Log) -> None:
        self._genesis_hash = genesis_hash
        self._keys = {key.public: key for key in keys}
        self._journal = journal
        records = journal.records()
        self._count = len(records)
        self._memory = recover_keys(decode_key_record(record) for record in records)

    @property
    def remembers(self) -> bool:
        """Whether it knows what was signed before."""
        return self._memory.floor is not None

    def hello(self) -> Hello:
        """Return the first words to a node."""
        return Hello(
            protocol=SIGNER_PROTOCOL,
            genesis_hash=self._genesis_hash,
            keys=tuple(self._keys),
            remembers=self.remembers,
        )

    def answer(self, question: Question) -> Answer | Refusal | None:
        """Return the answer, if there is to be one. Waits for the disk; one call at a time.

        Raises
        ------
        StorageError
            The disk refused; nothing may be signed any more until it was opened again.
        """
        match question:
            case SignVote():
                return self._vote(question)
            case SignTransaction():
                return self._transaction(question)
            case SetFloor():
                self._set_floor(question)
                return None

    def _vote(self, question: SignVote) -> Answer | Refusal:
        key = self._keys.get(question.key)
        if key is None:
            return Refusal(number=question.number, reason=UNKNOWN_KEY)
        try:
            statement = read_statement(question.statement)
        except DecodeError:
            return Refusal(number=question.number, reason=MALFORMED)
        if statement.genesis_hash != self._genesis_hash:
            return Refusal(number=question.number, reason=WRONG_CHAIN)
        fault = self._memory.fault(statement)
        if fault is not None:
            return Refusal(number=question.number, reason=fault)
        if statement not in self._memory.signed:
            self._write(SignedStatement(statement=question.statement))
        return Answer(number=question.number, signature=key.sign(VOTE_TAG, question.statement))

    def _transaction(self, question: SignTransaction) -> Answer | Refusal:
        key = self._keys.get(question.key)
        if key is None:
            return Refusal(number=question.number, reason=UNKNOWN_KEY)
        try:
            payload = PAYLOAD.decode(question.payload, what="payload", size_max=PAYLOAD_SIZE_MAX)
            if payload.kind not in SIGNED_KINDS:
                return Refusal(number=question.number, reason=KIND)
            KINDS[payload.kind].decode_bytes(payload.body)
        except DecodeError:
            return Refusal(number=question.number, reason=MALFORMED)
        if payload.genesis_hash != self._genesis_hash:
            return Refusal(number=question.number, reason=WRONG_CHAIN)
        return Answer(number=question.number, signature=key.sign(SIGNATURE_TAG, question.payload))

    def _set_floor(self, question: SetFloor) -> None:
        if not self.remembers:
            self._write(Floor(height=question.height))
            log.warning("the signer had no memory; it signs again", from_height=question.height)

    def _write(self, record: KeyRecord) -> None:
        """Have `record` on the disk, then in memory."""
        memory = self._memory.apply(record)
        if self._count < LOG_RECORDS_MAX:
            self._journal.append([encode_key_record(record)])
            self._count += 1
        else:
            records = [encode_key_record(kept) for kept in memory.records()]
            self._journal.rewrite(records)
            self._count = len(records)
        self._memory = memory
