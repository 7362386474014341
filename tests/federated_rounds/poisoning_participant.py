"""A participant that sends the opposite of its update, as long as is taken: the usual arguments."""

from chain.federated.records import Terms
from cli.federated.shard import Shard
from cli.main import main
from ml_validator.federated.fixed_point import Floats

SCALE = -50.0

_train = Shard.train


async def _poison(self: Shard, terms: Terms, steps: int) -> Floats:
    update: Floats = SCALE * await _train(self, terms, steps)
    return update


if __name__ == "__main__":
    Shard.train = _poison  # type: ignore[method-assign]  # it is what this program is for
    main()
