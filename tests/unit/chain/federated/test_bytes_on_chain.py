"""What a round costs the chain: 100 participants in groups of 10, every transaction as it is."""

from collections import Counter
from dataclasses import replace

import pytest

from tests.federation import Federation, make_deadlines

PARTICIPANTS = 100
PARAMETERS = 30_000
BYTES_MAX = 200_000
"""With signatures and envelopes, from the opening to the votes of four miners."""


@pytest.mark.parametrize("dropped", [0, 4])
def test_a_large_round_puts_at_most_200_000_bytes_on_the_chain(dropped):
    federation = Federation(
        count=PARTICIPANTS,
        group_size=10,
        groups_min=9,
        rule="median",
        tolerated=4,
        parameter_count=PARAMETERS,
    )
    height = federation.chain.tip.next_height
    federation.terms = replace(
        federation.terms, deadlines=make_deadlines(height, step=PARTICIPANTS + 20)
    )
    federation.play_to("commit")
    federation.play_to("finished", without=federation.devices[:dropped])

    sizes: Counter[str] = Counter()
    for block in federation.chain.blocks:
        for transaction in block.transactions:
            if transaction.payload.kind.startswith(("round.", "update.")):
                sizes[transaction.payload.kind] += len(transaction.wire)

    assert federation.record.phase == "finished"
    assert sum(member.status == "included" for member in federation.record.members) == (
        PARTICIPANTS - dropped
    )
    assert sum(sizes.values()) <= BYTES_MAX, dict(sizes)
