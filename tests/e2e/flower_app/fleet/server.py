"""What the coordinator does: FedAvg, over what the chain has."""

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from cli.federated.flower.coordinator import Coordinator
from cli.federated.flower.strategy import AnchoredFedAvg
from cli.federated.opening import RoundPlan
from cli.key_files import open_key

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Learn for some rounds and print the model."""
    config = context.run_config
    coordinator = Coordinator(
        rpc=str(config["rpc"]),
        key=open_key(Path(str(config["key"])), None),
        plan=RoundPlan(name="fleet", clip=100.0),
    )
    strategy = AnchoredFedAvg(coordinator, fraction_evaluate=0.0)
    start = ArrayRecord({"weight": Array(np.zeros(4))})
    result = strategy.start(grid=grid, initial_arrays=start, num_rounds=int(config["rounds"]))
    print("learned", result.arrays["weight"].numpy().tolist(), dict(strategy.refused))
