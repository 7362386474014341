"""cli.stall: several nodes, one answer."""

import pytest

from cli.stall import Answer, compare

MINERS = [f"m{number}" for number in range(4)]


def said(number, diagnosis, *, heard=4):
    return Answer(
        name=f"node{number}",
        document={
            "height": 7,
            "miner": MINERS[number],
            "members": [{"miner": miner} for miner in MINERS],
            "quorum": 3,
            "diagnosis": diagnosis,
            "explanation": f"because of {diagnosis}",
            "heard": heard,
        },
    )


def nothing(number):
    return Answer(name=f"node{number}", document=None)


@pytest.mark.parametrize(
    ("answers", "code", "named"),
    [
        ([said(n, "idle") for n in range(4)], "idle", "goes on"),
        ([*(said(n, "working") for n in range(3)), said(3, "slow_disk")], "working", "node3"),
        ([said(0, "quorum_lost"), said(1, "quorum_lost"), nothing(2), nothing(3)],
         "quorum_lost", "node2, node3"),
        ([said(0, "partition"), said(1, "quorum_lost"), nothing(2), nothing(3)],
         "quorum_lost", "2 of 4"),
        ([said(n, "partition" if n else "quorum_lost", heard=2) for n in range(4)],
         "partition", "none of them hears more than 2"),
        ([*(said(n, "slow_disk") for n in range(2)), *(said(n, "proposer_silent") for n in (2, 3))],
         "slow_disk", "node0"),
        ([*(said(n, "clock_skew") for n in range(3)), nothing(3)], "clock_skew", "node1"),
        ([*(said(n, "proposer_silent") for n in range(3)), nothing(3)], "proposer_silent", "node0"),
        ([said(0, "quorum_lost", heard=4), *(said(n, "quorum_lost", heard=4) for n in (1, 2)),
          said(3, "working")], "quorum_lost", "node0"),
        ([said(0, "quorum_lost")], "quorum_lost", "because"),
    ],
)  # fmt: skip
def test_the_reason_that_explains_most_is_the_answer(answers, code, named):
    found = compare(answers)

    assert found.code == code
    assert named in found.text


def test_an_observer_has_no_vote_on_why():
    observer = said(0, "slow_disk")
    assert observer.document is not None
    observer.document["miner"] = "nobody"

    assert compare([observer, *(said(n, "idle") for n in (1, 2, 3))]).code == "idle"
