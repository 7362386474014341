"""A ServerApp's strategy and a ClientApp, as a consortium writes them, over a chain.

Runs where Flower is installed: ``make flower``.
"""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs the environment of make flower")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from chain.federated.records import ROUND_TABLE
from cli.federated.flower.anchoring import UPDATE
from cli.federated.flower.mod import anchored
from cli.federated.flower.models import base_digest, flattened
from cli.federated.flower.strategy import AnchoredFedAvg
from tests.unit.cli.conftest import key_file
from tests.unit.cli.federated.flower.conftest import LETTERS
from tests.unit.cli.federated.flower.grid import InProcessGrid

START = {"weight": np.zeros((2, 2), np.float32), "bias": np.ones(1, np.float32)}
TARGETS = {1: 1.0, 2: 3.0, 3: 8.0}
"""To what each node would like to bring all parameters."""


def client_app(*mods):
    """Return a ClientApp that goes half the way to its target, and says how far it is off."""
    app = ClientApp(mods=list(mods))

    @app.train()
    def train(message, context):
        model = message.content["arrays"]
        target = TARGETS[context.node_id]
        trained = {n: Array((a.numpy() + target) / 2) for n, a in model.items()}
        metrics = MetricRecord({"num-examples": 10, "target": target})
        return Message(
            RecordDict({"arrays": ArrayRecord(trained), "metrics": metrics}), reply_to=message
        )

    @app.evaluate()
    def evaluate(message, context):
        (model,) = message.content.array_records.values()
        off = float(abs(model["bias"].numpy() - TARGETS[context.node_id])[0])
        metrics = MetricRecord({"num-examples": 10, "off": off})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


@pytest.fixture
def settings(node, tmp_path):
    """Return what the SuperNodes of three devices are started with."""
    return {
        number: {
            "securenet-rpc": node.url,
            "securenet-key": str(key_file(tmp_path / f"{letter}.json", letter)),
        }
        for number, letter in enumerate(LETTERS, 1)
    }


def run(coordinator, app, settings, rounds=1):
    strategy = AnchoredFedAvg(coordinator, min_available_nodes=3)
    start = ArrayRecord({name: Array(array) for name, array in START.items()})
    grid = InProcessGrid(app, settings)
    return strategy, strategy.start(grid=grid, initial_arrays=start, num_rounds=rounds)


def rounds_of(node):
    found = [record for _, record in node.chain.tip.state.scan(ROUND_TABLE)]
    return sorted(found, key=lambda record: record.opened_height)


def test_each_round_of_flower_is_one_on_the_chain(node, coordinator, settings):
    strategy, result = run(coordinator, client_app(anchored), settings, rounds=2)

    first, second = rounds_of(node)
    assert (first.phase, second.phase) == ("finished", "finished")
    assert first.terms.base == base_digest(flattened(START))
    assert strategy.refused == {}
    # The median of the three targets is 3: from 0 to 1.5 to 2.25, and from 1 to 2 to 2.5.
    weight, bias = (result.arrays[name].numpy() for name in START)
    assert weight.dtype == np.float32
    assert weight.tolist() == [[2.25, 2.25], [2.25, 2.25]]
    assert bias.tolist() == [2.5]
    assert result.train_metrics_clientapp[2]["target"] == pytest.approx(4.0)
    assert result.evaluate_metrics_clientapp[2]["off"] == pytest.approx((1.5 + 0.5 + 5.5) / 3)


def test_a_reply_that_is_not_on_the_chain_changes_nothing(node, coordinator, settings):
    def swapped(message, context, call_next):
        """Send another update than the one that was committed."""
        reply = call_next(message, context)
        if context.node_id == 3 and UPDATE in reply.content:
            sent = reply.content[UPDATE][UPDATE]
            false = Array(sent.dtype, sent.shape, sent.stype, bytes(len(sent.data)))
            reply.content[UPDATE] = ArrayRecord({UPDATE: false})
        return reply

    strategy, result = run(coordinator, client_app(swapped, anchored), settings)

    assert strategy.refused == {"not_on_chain": 1}
    # What the node has committed counts: it was handed to the chain.
    assert result.arrays["bias"].numpy().tolist() == [2.0]
    assert result.train_metrics_clientapp[1]["target"] == pytest.approx(2.0)


def test_a_client_without_the_mod_is_refused_and_the_model_stays(node, coordinator, settings):
    node.has_heartbeat = True
    impatient = replace(coordinator, plan=replace(coordinator.plan, deadlines="3,1,1,1,1,1"))

    strategy, result = run(impatient, client_app(), settings)

    assert strategy.refused == {"no_update": 3}
    assert len(result.arrays) == 0
    (found,) = rounds_of(node)
    assert (found.phase, found.reason) == ("failed", "too_few_joined")


def test_a_server_without_the_strategy_gets_no_update(node, coordinator, settings):
    grid = InProcessGrid(client_app(anchored), settings)
    message = Message(
        RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros(1))})}),
        message_type="train",
        dst_node_id=1,
    )

    (reply,) = grid.send_and_receive([message])

    assert reply.has_error()
    assert "names no federated round" in reply.error.reason
    assert rounds_of(node) == []


def test_a_supernode_without_a_key_says_so(coordinator, settings):
    del settings[2]["securenet-key"]
    strategy = AnchoredFedAvg(coordinator, min_available_nodes=3)
    grid = InProcessGrid(client_app(anchored), settings)
    start = ArrayRecord({name: Array(array) for name, array in START.items()})
    messages = strategy.configure_train(1, start, ConfigRecord(), grid)

    (reply,) = grid.send_and_receive([m for m in messages if m.metadata.dst_node_id == 2])

    assert "no securenet-key" in reply.error.reason
