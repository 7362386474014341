"""chain.light_client: what is believed, on which grounds, for how long."""

from dataclasses import replace

import pytest

from chain.blocks import BlockReceipt, Event, Receipt, receipt_leaves
from chain.errors import InvalidCertificate, InvalidProof, UntrustedHeader
from chain.light_client import (
    CLOCK_TOLERANCE_MS,
    TRUSTING_PERIOD_MS,
    InclusionProof,
    LightClient,
    verify_block_receipt,
    verify_receipt,
    verify_state,
    verify_transaction,
)
from chain.merkle import inclusion_proof, verify_inclusion
from chain.records.devices import DEVICE_TABLE
from chain.types import Height
from tests.builders import Chain, digest_of, make_genesis


class Story:
    """A chain of some blocks, with the certificate of each and the set that made it."""

    def __init__(self):
        self.chain = Chain()
        self.genesis = self.chain.tip.header
        self.blocks = []
        self.receipts = {}
        self.block_receipts = {}
        self.device, registration = self.chain.registration("device")
        self.commit(registration)
        self.commit(*[self.chain.by_device(self.device) for _ in range(3)])
        self.commit(round=1)
        proposal = self.chain.by_miner(0, "miner.propose", self.chain.addition())
        self.commit(proposal, self.chain.vote(1, proposal), self.chain.vote(2, proposal))
        self.commit()
        self.commit()
        self.commit()

    def commit(self, *transactions, round=0):
        miners = self.chain.miners
        execution = self.chain.commit(*transactions, round=round)
        certificate = self.chain.certificate(execution.header, miners)
        self.blocks.append((execution.header, certificate, miners))
        self.receipts[execution.header.height] = execution.receipts
        self.block_receipts[execution.header.height] = execution.block_receipt


@pytest.fixture(scope="module")
def story():
    return Story()


@pytest.fixture
def light(story):
    return LightClient(story.genesis)


def advance(light, step, *, now_ms=None):
    header, certificate, miners = step
    light.advance(
        header,
        certificate,
        miners,
        now_ms=header.time_ms if now_ms is None else now_ms,
    )


def test_a_header_is_believed_when_the_named_miners_signed_it(light, story):
    advance(light, story.blocks[0])

    assert light.trusted == story.blocks[0][0]


def test_headers_between_are_skipped_while_the_set_stays(light, story):
    advance(light, story.blocks[3])

    assert light.trusted.height == 4


@pytest.mark.attack("E3")
def test_a_change_of_the_set_is_walked_and_cannot_be_skipped(light, story):
    assert story.blocks[4][0].next_miner_set_hash != story.blocks[4][0].miner_set_hash
    with pytest.raises(UntrustedHeader):
        advance(light, story.blocks[5])
    assert light.trusted == story.genesis

    advance(light, story.blocks[4])
    advance(light, story.blocks[6])
    assert light.trusted.height == 7


@pytest.mark.attack("E3")
def test_the_old_set_cannot_go_on_after_a_change(light, story):
    # Retired keys sign another history.
    advance(light, story.blocks[4])
    header, _, _ = story.blocks[5]
    _, _, old = story.blocks[0]
    fork = replace(header, miner_set_hash=old.hash, state_root=digest_of("another history"))

    with pytest.raises(UntrustedHeader):
        advance(light, (fork, story.chain.certificate(fork, old), old))


@pytest.mark.attack("E3")
def test_trust_ends_with_the_trusting_period(light, story):
    end = story.genesis.time_ms + TRUSTING_PERIOD_MS
    with pytest.raises(UntrustedHeader):
        advance(light, story.blocks[0], now_ms=end + 1)
    advance(light, story.blocks[0], now_ms=end)


def test_a_header_of_the_future_is_not_trusted(light, story):
    # Whoever gets hold of a quorum of keys could otherwise be trusted for ever.
    header = story.blocks[0][0]
    with pytest.raises(UntrustedHeader):
        advance(light, story.blocks[0], now_ms=header.time_ms - CLOCK_TOLERANCE_MS - 1)
    advance(light, story.blocks[0], now_ms=header.time_ms - CLOCK_TOLERANCE_MS)


def test_headers_only_move_forward(light, story):
    advance(light, story.blocks[2])

    for step in (story.blocks[2], story.blocks[1]):
        with pytest.raises(UntrustedHeader):
            advance(light, step)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"genesis_hash": digest_of("x")}, UntrustedHeader),
        ({"height": Height(0)}, UntrustedHeader),
        ({"time_ms": 1}, UntrustedHeader),
        ({"parent_hash": digest_of("x")}, UntrustedHeader),
        ({"miner_set_hash": digest_of("x")}, UntrustedHeader),
        ({"height": Height(2)}, InvalidCertificate),
        ({"state_root": digest_of("x")}, InvalidCertificate),
        ({"next_miner_set_hash": digest_of("x")}, InvalidCertificate),
        ({"proposal_round": 1}, InvalidCertificate),
    ],
)
def test_a_changed_header_is_not_believed(light, story, fields, error):
    header, certificate, miners = story.blocks[0]

    with pytest.raises(error):
        advance(light, (replace(header, **fields), certificate, miners))
    assert light.trusted == story.genesis


def test_another_set_than_the_named_is_not_believed(light, story):
    header, certificate, _ = story.blocks[0]
    other = Chain(make_genesis(miners=5)).miners

    with pytest.raises(UntrustedHeader):
        advance(light, (header, certificate, other))


def test_a_certificate_of_another_block_is_not_believed(light, story):
    (header, _, miners), (_, other, _) = story.blocks[:2]

    with pytest.raises(InvalidCertificate):
        advance(light, (header, other, miners))


# --- proofs under a trusted header ----------------------------------------------------------------


def test_transactions_and_receipts_are_proved(story):
    header = story.blocks[1][0]
    block = story.chain.blocks[1]
    digests = [transaction.digest for transaction in block.transactions]
    for index, transaction in enumerate(block.transactions):
        proof = InclusionProof(index=index, leaf_count=3, path=inclusion_proof(digests, index))
        verify_transaction(header, transaction, proof)
        with pytest.raises(InvalidProof):
            verify_transaction(story.blocks[2][0], transaction, proof)
        with pytest.raises(InvalidProof):
            verify_transaction(header, block.transactions[index - 1], proof)


@pytest.mark.attack("B15")
def test_a_receipt_shows_the_place():
    chain = Chain()
    device = chain.register()
    execution = chain.commit(*[chain.by_device(device) for _ in range(5)])
    header, receipt = execution.header, execution.receipts[4]
    leaves = receipt_leaves(execution.receipts, execution.block_receipt)
    proof = InclusionProof(index=4, leaf_count=6, path=inclusion_proof(leaves, 4))
    verify_receipt(header, receipt, proof)

    # As number 2 of four, the same path leads to the same root; the receipt tells the difference.
    verify_inclusion(
        root=header.receipt_root, leaf=leaves[4], index=2, leaf_count=4, path=proof.path
    )
    lie = InclusionProof(index=2, leaf_count=4, path=proof.path)
    for claimed in (receipt, replace(receipt, index=2)):
        with pytest.raises(InvalidProof):
            verify_receipt(header, claimed, lie)
    with pytest.raises(InvalidProof):
        verify_receipt(header, replace(receipt, events=(Event(name="x", values=()),)), proof)


@pytest.mark.parametrize(("height", "count"), [(2, 3), (3, 0), (5, 0)])
def test_what_the_end_of_a_block_brought_about_is_proved(story, height, count):
    header = story.blocks[height - 1][0]
    receipts, receipt = story.receipts[height], story.block_receipts[height]
    leaves = receipt_leaves(receipts, receipt)
    proof = InclusionProof(index=count, leaf_count=count + 1, path=inclusion_proof(leaves, count))

    verify_block_receipt(header, receipt, proof)
    assert bool(receipt.events) == (height == 3)
    other = BlockReceipt(events=(Event(name="proposal_expired", values=()),))
    for wrong in (other, BlockReceipt(events=(*receipt.events, *other.events))):
        with pytest.raises(InvalidProof):
            verify_block_receipt(header, wrong, proof)
    with pytest.raises(InvalidProof):
        verify_block_receipt(story.blocks[0][0], receipt, proof)


@pytest.mark.attack("B15")
def test_no_receipt_is_taken_for_one_of_the_other_sort(story):
    # A node that shows the end of a block as the receipt of a transaction would have it final, one
    # that does the reverse would hide what the end of the block did.
    header, receipts = story.blocks[1][0], story.receipts[2]
    leaves = receipt_leaves(receipts, story.block_receipts[2])
    proofs = [
        InclusionProof(index=index, leaf_count=4, path=inclusion_proof(leaves, index))
        for index in range(4)
    ]

    for receipt, proof in zip(receipts, proofs, strict=False):
        with pytest.raises(InvalidProof):
            verify_block_receipt(header, BlockReceipt(events=receipt.events), proof)
    for index, transaction in enumerate(story.chain.blocks[1].transactions):
        forged = Receipt(transaction_id=transaction.id, index=index, events=())
        for claimed in (forged, replace(forged, index=3)):
            with pytest.raises(InvalidProof):
                verify_receipt(header, claimed, proofs[3])


def test_state_is_proved_present_and_absent(story):
    header = story.chain.tip.header
    state = story.chain.state
    key = DEVICE_TABLE.key(story.device.id)
    value = DEVICE_TABLE.encode(story.chain.device(story.device))
    proof = state.prove(DEVICE_TABLE, story.device.id)

    verify_state(header, key, value, proof)
    absent = DEVICE_TABLE.key(digest_of("nobody"))
    verify_state(header, absent, None, state.prove(DEVICE_TABLE, digest_of("nobody")))
    for bad_key, bad_value in ((key, None), (key, value + b"\x00"), (absent, value)):
        with pytest.raises(InvalidProof):
            verify_state(header, bad_key, bad_value, proof)
    with pytest.raises(InvalidProof):
        verify_state(story.genesis, key, value, proof)
