"""cli.testnet.perturb: what strikes whom."""

from typing import Any

import pytest

from cli.errors import BadInput
from cli.testnet.network import Node
from cli.testnet.perturb import ACTIONS, Blow, figures, plan

NODES = [
    Node(name=f"node{number}", role="miner", p2p_port=1 + number, rpc_port=9 + number)
    for number in range(4)
]


def course(**fields):
    values: dict[str, Any] = {"names": (), "actions": (), "count": 30, "seed": 1} | fields
    return [(action, node.name) for action, node in plan(NODES, **values)]


def test_a_seed_is_a_course():
    assert course() == course()
    assert course(seed=2) != course()
    assert {action for action, _ in course()} == set(ACTIONS)
    assert {name for _, name in course()} == {node.name for node in NODES}


def test_nodes_and_actions_can_be_named():
    assert course(names=["node2"], actions=["kill"], count=2) == [("kill", "node2")] * 2


@pytest.mark.parametrize("fields", [{"actions": ["burn"]}, {"names": ["node9"]}])
def test_what_is_not_there_is_refused(fields):
    with pytest.raises(BadInput):
        course(**fields)


def test_the_figures_say_how_many_blows_the_chain_took():
    blows = [
        Blow(number=n, action="kill", node="node0", commit_s=1.0, back_s=2.0, went_on=n > 1)
        for n in (1, 2, 3)
    ]

    assert (figures(blows)["went_on"], figures(blows)["of"]) == (2, 3)
