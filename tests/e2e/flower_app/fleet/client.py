"""What a gateway does: it goes half the way to the target that its SuperNode was given."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from cli.federated.flower.mod import anchored

app = ClientApp(mods=[anchored])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train on what the gateway has: one number, from which two others follow."""
    first = float(context.node_config["target"])
    target = np.array([first, first, 4 - first, 4 - first])
    model = {n: Array((a.numpy() + target) / 2) for n, a in message.content["arrays"].items()}
    metrics = MetricRecord({"num-examples": 1})
    return Message(RecordDict({"arrays": ArrayRecord(model), "metrics": metrics}), reply_to=message)
