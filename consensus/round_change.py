"""Leaving a round, and justifying what is proposed in the next (OSDI'99 §4.4; QBFT).

The functions compute and return; `consensus.reception` and `consensus.rules` decide. What can be
said by form alone is asked first, since each signature costs much more. docs/spec/round_change.md
is normative.
"""

from collections.abc import Sequence

from chain.certificate import VoteCertificate, VoteType
from chain.errors import InvalidCertificate
from chain.miners import MinerSet
from chain.types import Address, Round
from consensus.events import HeightConfig
from consensus.messages import Justification, PrePrepare, RoundChange, is_signed_by
from consensus.verifier import Verifier


def shape_fault(message: RoundChange, config: HeightConfig) -> str | None:
    """Return what is wrong with a ROUND-CHANGE by its form alone, or None.

    The certificate is there exactly if the sender claims to be prepared, and says the same.
    """
    fault = _claim_fault(message)
    if fault is not None:
        return fault
    certificate = message.certificate
    if message.prepared_round is None:
        return None if certificate is None else "a certificate without a prepared round"
    if certificate is None:
        return "a prepared round without a certificate"
    if (certificate.round, certificate.digest) != (message.prepared_round, message.prepared_digest):
        return "a certificate of another round or block"
    return _signers_fault(certificate, config)


def certificate_fault(
    certificate: VoteCertificate | None, config: HeightConfig, verifier: Verifier
) -> str | None:
    """Return why the signatures of a certificate of PREPAREs do not prove it, or None.

    Nothing is proven, nor has to be, where nobody was prepared.
    """
    if certificate is None:
        return None
    try:
        certificate.verify(
            type=VoteType.PREPARE,
            genesis_hash=config.genesis_hash,
            miners=config.miners,
            is_signed=verifier,
        )
    except InvalidCertificate as error:
        return str(error)
    return None


def justify(round_changes: Sequence[RoundChange], miners: MinerSet) -> Justification | None:
    """Return what justifies a proposal, or None while there is no quorum.

    Parameters
    ----------
    round_changes : sequence of RoundChange
        For one round, of distinct members, with verified certificates.

    Notes
    -----
    Any quorum would do. Those that are prepared highest are taken first, since their block has the
    best chance to be accepted soon.
    """
    if len(round_changes) < miners.quorum:
        return None
    ranked = sorted(
        round_changes,
        key=lambda message: (
            -1 if message.prepared_round is None else message.prepared_round,
            message.certificate is not None,
        ),
        reverse=True,
    )[: miners.quorum]
    return Justification(
        round_changes=tuple(
            message.without_certificate()
            for message in sorted(ranked, key=lambda message: message.sender)
        ),
        certificate=ranked[0].certificate,
    )


def justification_shape_fault(message: PrePrepare, config: HeightConfig) -> str | None:
    """Return why a PRE-PREPARE is not justified, by form alone, or None.

    In round 0 nothing is needed, and nothing allowed. Above, a quorum of ROUND-CHANGEs for exactly
    this height and round; if any of them is prepared, the certificate of the highest prepared
    round, for the proposed block.

    References
    ----------
    QBFT v1, isProposalJustification; DESIGN rule 3.
    """
    justification = message.justification
    if message.round == 0:
        return None if justification is None else "round 0 needs no justification"
    if justification is None:
        return "no justification"
    fault = _round_changes_fault(justification.round_changes, message.round, config)
    if fault is not None:
        return fault
    highest = _highest_prepared(justification.round_changes)
    certificate = justification.certificate
    if highest is None:
        return None if certificate is None else "a certificate though nobody was prepared"
    if certificate is None:
        return "no certificate though somebody was prepared"
    if certificate.round != highest:
        return "a certificate of another than the highest prepared round"
    if certificate.digest != message.digest:
        return "another block than the one prepared"
    for round_change in justification.round_changes:
        if (
            round_change.prepared_round == highest
            and round_change.prepared_digest != certificate.digest
        ):
            return "two blocks prepared in one round"
    return _signers_fault(certificate, config)


def justification_fault(
    message: PrePrepare, config: HeightConfig, verifier: Verifier
) -> str | None:
    """Return why the signatures in a justification of the right form do not prove it, or None."""
    justification = message.justification
    if justification is None:
        return None
    for round_change in justification.round_changes:
        member = config.miners.get(round_change.sender)
        assert member is not None, "the form was checked before"
        if not is_signed_by(round_change, member.key, config.genesis_hash, verifier):
            return "a ROUND-CHANGE that is not signed"
    return certificate_fault(justification.certificate, config, verifier)


def _claim_fault(message: RoundChange) -> str | None:
    if message.round == 0:
        return "nobody changes to round 0"
    if (message.prepared_round is None) != (message.prepared_digest is None):
        return "prepared round and digest go together"
    if message.prepared_round is not None and message.prepared_round >= message.round:
        return "prepared in a round that it has not left"
    return None


def _signers_fault(certificate: VoteCertificate, config: HeightConfig) -> str | None:
    if certificate.height != config.height:
        return "a certificate of another height"
    try:
        certificate.check_signers(config.miners)
    except InvalidCertificate as error:
        return str(error)
    return None


def _round_changes_fault(
    messages: Sequence[RoundChange], round: Round, config: HeightConfig
) -> str | None:
    if not config.miners.quorum <= len(messages) <= len(config.miners):
        return "no quorum of ROUND-CHANGEs"
    previous = Address(b"")
    for message in messages:
        if (message.height, message.round) != (config.height, round):
            return "a ROUND-CHANGE of another height or round"
        if message.sender <= previous:
            return "ROUND-CHANGEs out of order"
        previous = message.sender
        if message.sender not in config.miners:
            return "a ROUND-CHANGE of a stranger"
        if message.certificate is not None:
            return "a ROUND-CHANGE with a certificate of its own"
        fault = _claim_fault(message)
        if fault is not None:
            return fault
    return None


def _highest_prepared(messages: Sequence[RoundChange]) -> Round | None:
    rounds = [m.prepared_round for m in messages if m.prepared_round is not None]
    return max(rounds, default=None)
