"""Verifying the chain with headers, certificates and proofs alone.

A client that trusts one header (genesis, or a recent one from a person) follows it to later ones:
a header is believed when a quorum of the miners that the trusted header names for the next height
has signed it. It need not see every header, only those at which the set of miners changes.

Notes
-----
Miners that were removed long ago may have sold or lost their keys and can sign another history;
so trust ends after a *trusting period*. Starting from genesis alone is open to this long-range
attack once the first miners' keys are old; take a recent trusted header from someone you know.
docs/spec/light_client.md is normative.
"""

from dataclasses import dataclass
from typing import Final

from chain.blocks import BLOCK_RECEIPT, RECEIPT, BlockReceipt, Header, Receipt
from chain.certificate import CommitCertificate, VoteType
from chain.errors import InvalidCertificate, InvalidProof, UntrustedHeader
from chain.merkle import verify_inclusion
from chain.miners import MinerSet
from chain.state_tree import StateProof
from chain.transactions import Transaction
from chain.types import Digest

TRUSTING_PERIOD_MS: Final = 14 * 24 * 3_600_000
"""How long a header is trusted to name honest miners, unless the caller says otherwise."""
CLOCK_TOLERANCE_MS: Final = 10 * 60_000
"""How far a header's time may be ahead of the caller's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InclusionProof:
    """That a leaf stands under one of a header's roots."""

    index: int
    leaf_count: int
    path: tuple[Digest, ...]


class LightClient:
    """Holds one trusted header and moves it on.

    Parameters
    ----------
    trusted : Header
        A header that the caller has reason to trust.
    trusting_period_ms : int
        For how long after the header's time it names honest miners.
    """

    def __init__(self, trusted: Header, *, trusting_period_ms: int = TRUSTING_PERIOD_MS) -> None:
        self.trusted = trusted
        self.trusting_period_ms = trusting_period_ms

    def advance(
        self,
        header: Header,
        certificate: CommitCertificate,
        miners: MinerSet,
        *,
        now_ms: int,
    ) -> None:
        """Trust `header` from now on.

        Parameters
        ----------
        miners : MinerSet
            The set of the header's height, from anybody: it is checked against the hash that the
            trusted header names.

        Raises
        ------
        UntrustedHeader
            The trust has expired, the header is not later, of the future, of another chain, or
            decided by miners that the trusted header does not name.
        InvalidCertificate
            The certificate does not prove the header.
        """
        trusted = self.trusted
        if now_ms - trusted.time_ms > self.trusting_period_ms:
            raise UntrustedHeader("the trusted header is older than the trusting period")
        if header.genesis_hash != trusted.genesis_hash:
            raise UntrustedHeader("the header belongs to another chain")
        if header.time_ms - now_ms > CLOCK_TOLERANCE_MS:
            raise UntrustedHeader("the header is from the future, and would be trusted too long")
        if header.height <= trusted.height or header.time_ms <= trusted.time_ms:
            raise UntrustedHeader("the header is not later than the trusted one")
        if header.height == trusted.height + 1 and header.parent_hash != trusted.hash:
            raise UntrustedHeader("the header has another parent")
        if header.miner_set_hash != trusted.next_miner_set_hash or miners.hash != (
            header.miner_set_hash
        ):
            raise UntrustedHeader("the trusted header names other miners")
        verify_header(header, certificate, miners)
        self.trusted = header


def verify_header(header: Header, certificate: CommitCertificate, miners: MinerSet) -> None:
    """Check that `certificate` by `miners` proves `header`.

    Raises
    ------
    InvalidCertificate
        It does not.
    """
    if certificate.height != header.height or certificate.digest != header.hash:
        raise InvalidCertificate("the certificate is of another block")
    certificate.verify(type=VoteType.COMMIT, genesis_hash=header.genesis_hash, miners=miners)


def verify_transaction(header: Header, transaction: Transaction, proof: InclusionProof) -> None:
    """Check that `transaction` stands in the block of a trusted `header`.

    Its place in the block is shown by its receipt, not by this proof.

    Raises
    ------
    InvalidProof
        The proof does not show it.
    """
    verify_inclusion(
        root=header.transaction_root,
        leaf=transaction.digest,
        index=proof.index,
        leaf_count=proof.leaf_count,
        path=proof.path,
    )


def verify_receipt(header: Header, receipt: Receipt, proof: InclusionProof) -> None:
    """Check that `receipt` is one of the block of a trusted `header`.

    The tree has a leaf more than the block has transactions: the block's own receipt, the last.

    Raises
    ------
    InvalidProof
        The proof does not show it.
    """
    if receipt.index != proof.index:
        raise InvalidProof("the receipt names another index than the proof")
    _verify_under_receipts(header, RECEIPT.encode(receipt), proof)


def verify_block_receipt(header: Header, receipt: BlockReceipt, proof: InclusionProof) -> None:
    """Check that `receipt` is what the end of the block of a trusted `header` brought about.

    Raises
    ------
    InvalidProof
        The proof does not show it.
    """
    if proof.index != proof.leaf_count - 1:
        raise InvalidProof("the receipt of a block stands behind all others")
    _verify_under_receipts(header, BLOCK_RECEIPT.encode(receipt), proof)


def _verify_under_receipts(header: Header, leaf: bytes, proof: InclusionProof) -> None:
    verify_inclusion(
        root=header.receipt_root,
        leaf=leaf,
        index=proof.index,
        leaf_count=proof.leaf_count,
        path=proof.path,
    )


def verify_state(header: Header, key: bytes, value: bytes | None, proof: StateProof) -> None:
    """Check that the state after a trusted `header` holds `value` for `key`, or None for nothing.

    Raises
    ------
    InvalidProof
        The proof does not show it.
    """
    proof.verify(root=header.state_root, key=key, value=value)
