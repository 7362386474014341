"""From a seed to a world, its faults and its course: first nothing may go wrong, then all goes on.

In the safety phase faults strike while clients send; only the checkers judge. Then everything is
healed, and the liveness phase asks that each node's transactions are committed in time and that all
nodes arrive at one height.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.simulation.checkers import Violation
from tests.simulation.faults import Fault, draw_faults, heal, play
from tests.simulation.network import LinkQuality
from tests.simulation.parts import PARTS, play_part
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World, leaves_of

SAFETY_S: Final = 30.0
LIVENESS_S: Final = 60.0
"""How long a healed network may take to commit what each of its nodes is given."""
SETTLE_S: Final = 15.0
REGISTERED_S: Final = 60.0
MINERS: Final = (4, 4, 4, 4, 5, 6, 7)
FAULTS_MAX: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed says: the world's settings, the tricks of its hostile miners, its faults."""

    settings: Settings
    tricks: dict[str, str]
    fault_count: int
    per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a seed.

    Parameters
    ----------
    recovered_s : float
        How long the healed network took for a transaction of each node.
    """

    seed: int
    trace: str
    lines: int
    time_s: float
    height: int
    transactions: int
    faults: int
    hostile: int
    recovered_s: float


class Failed(Exception):
    """A seed has failed.

    Parameters
    ----------
    lines : sequence of str
        The end of its trace.
    faults : sequence of Fault
        What went wrong in it.
    """

    def __init__(
        self, seed: int, error: BaseException, lines: Sequence[str], faults: Sequence[Fault]
    ) -> None:
        causes = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))
        super().__init__(f"seed {seed}: {causes}")
        self.seed = seed
        self.lines = lines
        self.faults = faults


def draw_plan(seed: int) -> Plan:
    """Return what the seed says."""
    random = Random(f"{seed}/plan")
    miners = random.choice(MINERS)
    hostile_count = random.choice((0, 0, (miners - 1) // 3))
    hostile = tuple(sorted(random.sample([f"m{i}" for i in range(miners)], hostile_count)))
    return Plan(
        settings=Settings(
            miners=miners,
            observers=random.choice((0, 0, 1)),
            hostile=hostile,
            detectors=random.randrange(2) == 0,
            quality=LinkQuality(
                latency_us_max=random.choice((1_000, 5_000, 40_000, 150_000)),
                loss_ppm=random.choice((0, 0, 0, 5_000, 30_000)),
                duplicate_ppm=random.choice((0, 0, 10_000)),
                break_ppm=random.choice((0, 0, 200)),
            ),
            disk_latency_us=random.choice((100, 1_000, 5_000)),
        ),
        tricks={name: random.choice(PARTS) for name in hostile},
        fault_count=random.randint(5, FAULTS_MAX),
        per_second=random.choice((1, 3, 10)),
    )


def run_seed(
    seed: int,
    *,
    write: Callable[[str], object] | None = None,
    choose: Callable[[list[Fault]], list[Fault]] = lambda faults: faults,
) -> Outcome:
    """Play the world of a seed.

    Parameters
    ----------
    write : callable, optional
        Gets every line of the trace.
    choose : callable, optional
        Takes the faults of the seed and returns those to be played.

    Raises
    ------
    Failed
        A rule was broken, or something ended that should not have.
    """
    plan = draw_plan(seed)
    world = World(seed, plan.settings, write=write)
    drawn = draw_faults(world.random("faults"), world, duration_s=SAFETY_S, count=plan.fault_count)
    course = _Course(plan, choose(drawn))
    try:
        world.run(course.scene)
    except (Exception, BaseExceptionGroup) as error:
        raise Failed(seed, error, list(world.trace.lines), course.faults) from error
    return Outcome(
        seed=seed,
        trace=world.trace.hexdigest(),
        lines=world.trace.count,
        time_s=world.time_s,
        height=world.ledger.height,
        transactions=len(world.ledger.places),
        faults=len(course.faults),
        hostile=len(plan.tricks),
        recovered_s=course.recovered_s,
    )


class _Course:
    """The scene of a plan, and what it has measured."""

    def __init__(self, plan: Plan, faults: list[Fault]) -> None:
        self.faults = faults
        self.recovered_s = 0.0
        self._plan = plan

    async def scene(self, world: World) -> None:
        world.start()
        load = Workload(world, per_second=self._plan.per_second)
        async with asyncio.TaskGroup() as group:
            hostile = [
                group.create_task(play_part(world, name, part))
                for name, part in self._plan.tricks.items()
            ]
            await load.prepare(within_s=REGISTERED_S)
            clients = group.create_task(load.run())
            trouble = group.create_task(play(world, self.faults))
            await asyncio.sleep(SAFETY_S)
            trouble.cancel()
            await asyncio.wait([trouble])
            heal(world)
            await world.reach(0, within_s=LIVENESS_S)
            self.recovered_s = await load.commit_at_each(within_s=LIVENESS_S)
            clients.cancel()
            await self._settle(world)
            load.check_receipts()
            for task in hostile:
                task.cancel()

    async def _settle(self, world: World) -> None:
        """Wait until all nodes are at one height, with everything that is valid committed."""

        def at_one_height() -> bool:
            return set(world.heights().values()) == {world.ledger.height}

        await world.until(
            lambda: not world.unpunished(), within_s=LIVENESS_S, what="the conviction of liars"
        )
        await world.until(at_one_height, within_s=SETTLE_S, what="one height")
        down = [name for name, host in world.hosts.items() if host.node is None]
        if down:
            raise Violation(f"{down} are down in a healed world")
