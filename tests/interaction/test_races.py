"""A message that comes in the very instant in which a miner gives up its round, in either order."""

import pytest

from consensus.events import Tick
from tests.interaction.cluster import Cluster


def play(step, first):
    """Let the `step`-th message that reaches m0 meet its timer; False where there are not so many.

    The cluster itself sees to it that nothing differs and nothing invalid is committed.
    """
    cluster = Cluster(n=4, seed=1)
    node, deliver = cluster.nodes[0], cluster._deliver
    count = 0

    def meet(sender, receiver, method, args):
        nonlocal count
        is_counted = receiver is node and method == "on_data" and not node.disk.chain
        count += is_counted
        if not is_counted or count != step:
            deliver(sender, receiver, method, args)
            return
        cluster.now = max(cluster.now, node.deadline or 0)
        if first == "time-out":
            node.feed(Tick())
        deliver(sender, receiver, method, args)
        if first == "message":
            node.feed(Tick())

    vars(cluster)["_deliver"] = meet
    assert cluster.run_to(3), [node.height for node in cluster.nodes]
    return count >= step


@pytest.mark.attack("A10")
@pytest.mark.parametrize("first", ["time-out", "message"])
def test_the_last_vote_and_the_time_out_meet_in_either_order(first):
    step = 1
    while play(step, first):
        step += 1

    assert step > 6, "the PRE-PREPARE, and votes of each type"
