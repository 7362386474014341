"""From a seed to a world, its faults and its course: first nothing may go wrong, then all goes on.

In the safety phase faults strike and the miners change their own number, while clients send; only
the checkers judge. Then everything is healed, and the liveness phase asks that what the miners have
begun to decide is decided, that each node's transactions are committed in time, and that all nodes
arrive at one height.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from chain.miners import faulty_max
from tests.simulation.bounds import watch_bounds
from tests.simulation.changes import Change, Council, draw_changes
from tests.simulation.checkers import Violation
from tests.simulation.faults import Fault, draw_faults, heal, play
from tests.simulation.lesson import LENGTH_S, Classroom, Lesson, draw_lesson
from tests.simulation.network import LinkQuality
from tests.simulation.parts import PARTS, SILENCE, play_part
from tests.simulation.workload import Workload
from tests.simulation.world import Settings, World, leaves_of

SEED_MAX: Final = 2**63 - 1
REAL_SIGNATURES_EVERY: Final = 10
DATABASES_CHECKED: Final = 2
SAFETY_S: Final = (45.0, 55.0, 75.0)
LIVENESS_S: Final = 60.0
"""How long a healed network may take to commit what each of its nodes is given."""
SETTLE_S: Final = 15.0
REGISTERED_S: Final = 60.0
MINERS: Final = (4, 4, 4, 4, 4, 5, 5, 6, 7, 10)
JOINERS: Final = 2
FAULTS: Final = (4, 12)
LESSON_EVERY: Final = 8
"""One world of so many has a federated round."""
CHANGES: Final = (0, 0, 1, 2, 3)
"""How many things the miners are asked to decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a seed says: the world's settings, the tricks of its hostile miners, what happens.

    Parameters
    ----------
    lesson : Lesson or None
        A federated round; most worlds have none.
    """

    settings: Settings
    tricks: dict[str, str]
    safety_s: float
    fault_count: int
    change_count: int
    per_second: float
    lesson: Lesson | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What of a seed's world is played: everything, unless something is left out.

    Parameters
    ----------
    events : frozenset of int or None
        Faults and changes by their numbers in the order of their beginning; None is all.
    mute : frozenset of str
        Hostile miners that say nothing, whatever trick the seed gives them.
    load : bool
        Whether clients send during the safety phase, and learn.
    """

    events: frozenset[int] | None = None
    mute: frozenset[str] = frozenset()
    load: bool = True

    def arguments(self) -> str:
        """Return it as arguments of the command line, with a blank before each."""
        text = ""
        if self.events is not None:
            text += f" --faults '{','.join(map(str, sorted(self.events)))}'"
        if self.mute:
            text += f" --mute {','.join(sorted(self.mute))}"
        return text + ("" if self.load else " --no-load")


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
    miners: int
    faults: int
    changes: int
    hostile: int
    recovered_s: float


class Failed(Exception):
    """A seed has failed.

    Parameters
    ----------
    lines : sequence of str
        The end of its trace.
    events : sequence of Fault or Change
        What happened in it, all of it, in the order of the numbers.
    hostile : sequence of str
        Its hostile miners.
    """

    def __init__(
        self,
        seed: int,
        error: BaseException,
        lines: Sequence[str],
        events: Sequence[Fault | Change],
        hostile: Sequence[str],
    ) -> None:
        self.causes = "; ".join(f"{type(leaf).__name__}: {leaf}" for leaf in leaves_of(error))
        super().__init__(f"seed {seed}: {self.causes}")
        self.seed = seed
        self.lines = lines
        self.events = events
        self.hostile = hostile


def draw_plan(seed: int) -> Plan:
    """Return what the seed says."""
    random = Random(f"{seed}/plan")
    # Of its own, so that worlds without one are what they were before there were any.
    learning = Random(f"{seed}/lesson")
    miners = random.choice(MINERS)
    hostile_count = random.choice((0, 0, random.randint(1, faulty_max(miners))))
    hostile = tuple(sorted(random.sample([f"m{i}" for i in range(miners)], hostile_count)))
    plan = Plan(
        settings=Settings(
            miners=miners,
            observers=random.choice((0, 0, 1)),
            joiners=JOINERS,
            hostile=hostile,
            detectors=random.randrange(2) == 0,
            quality=LinkQuality(
                latency_us_max=random.choice((1_000, 5_000, 40_000, 150_000)),
                loss_ppm=random.choice((0, 0, 0, 5_000, 30_000)),
                duplicate_ppm=random.choice((0, 0, 10_000)),
                reorder_ppm=random.choice((0, 0, 10_000)),
                break_ppm=random.choice((0, 0, 200)),
            ),
            disk_latency_us=random.choice((100, 1_000, 5_000)),
            real_signatures=seed % REAL_SIGNATURES_EVERY == 0,
            databases_checked=DATABASES_CHECKED,
        ),
        tricks={name: random.choice(PARTS) for name in hostile},
        safety_s=random.choice(SAFETY_S),
        fault_count=random.randint(*FAULTS),
        change_count=random.choice(CHANGES),
        per_second=random.choice((0.1, 0.25, 0.6)),
        lesson=None,
    )
    if learning.randrange(LESSON_EVERY):
        return plan
    return replace(plan, lesson=draw_lesson(learning, duration_s=plan.safety_s))


def run_seed(
    seed: int, *, write: Callable[[str], object] | None = None, cut: Cut | None = None
) -> Outcome:
    """Play the world of a seed.

    Parameters
    ----------
    write : callable, optional
        Gets every line of the trace.
    cut : Cut, optional
        What of it is played.

    Raises
    ------
    Failed
        A rule was broken, or something ended that should not have.
    """
    plan = draw_plan(seed)
    world = World(seed, plan.settings, write=write)
    events = draw_events(plan, world)
    course = _Course(plan, events, cut or Cut())
    try:
        world.run(course.scene)
    except (Exception, BaseExceptionGroup) as error:
        raise Failed(seed, error, list(world.trace.lines), events, list(plan.tricks)) from error
    return Outcome(
        seed=seed,
        trace=world.trace.hexdigest(),
        lines=world.trace.count,
        time_s=world.time_s,
        height=world.ledger.height,
        transactions=len(world.ledger.places),
        miners=plan.settings.miners,
        faults=len(course.faults),
        changes=course.changes_made,
        hostile=len(plan.tricks),
        recovered_s=course.recovered_s,
    )


def draw_events(plan: Plan, world: World) -> list[Fault | Change]:
    """Return what happens in the world of a plan, in the order of its beginning."""
    events: list[Fault | Change] = [
        *draw_faults(
            world.random("faults"), world, duration_s=plan.safety_s, count=plan.fault_count
        ),
        *draw_changes(
            world.random("changes"), world, duration_s=plan.safety_s, count=plan.change_count
        ),
    ]
    return sorted(events, key=lambda event: event.at_s)


class _Course:
    """The scene of a plan, and what it has measured."""

    def __init__(self, plan: Plan, events: Sequence[Fault | Change], cut: Cut) -> None:
        chosen = [
            event
            for number, event in enumerate(events)
            if cut.events is None or number in cut.events
        ]
        self.faults = [event for event in chosen if isinstance(event, Fault)]
        self.changes_made = 0
        self.recovered_s = 0.0
        self._changes = [event for event in chosen if isinstance(event, Change)]
        self._plan = plan
        self._cut = cut

    async def scene(self, world: World) -> None:
        world.start()
        load = Workload(world, per_second=self._plan.per_second)
        council = Council(world, load)
        async with asyncio.TaskGroup() as group:
            companions = [group.create_task(watch_bounds(world))]
            companions += [
                group.create_task(play_part(world, name, self._part(name)))
                for name in self._plan.tricks
            ]
            await load.prepare(within_s=REGISTERED_S)
            classroom = self._classroom(world, load)
            lesson = None
            if classroom is not None:
                await classroom.enrol(within_s=REGISTERED_S)
                if classroom.lesson.at_s is not None:
                    lesson = group.create_task(classroom.play(after_s=classroom.lesson.at_s))
            if self._cut.load:
                companions.append(group.create_task(load.run()))
            trouble = group.create_task(play(world, self.faults))
            changes = group.create_task(council.play(self._changes))
            await asyncio.sleep(self._plan.safety_s)
            trouble.cancel()
            await asyncio.wait([trouble])
            heal(world)
            await world.reach(world.ledger.height, within_s=LIVENESS_S)
            await council.conclude(changes, within_s=LIVENESS_S)
            self.changes_made = len(council.decided)
            # Whom the last change has made a miner learns that from its block.
            await world.reach(world.ledger.height, within_s=LIVENESS_S)
            self.recovered_s = await load.commit_at_each(within_s=LIVENESS_S)
            if classroom is not None:
                if lesson is None:
                    lesson = group.create_task(classroom.play())
                await world.until(lesson.done, within_s=LENGTH_S, what="the end of the lesson")
                await classroom.check(is_healed=classroom.lesson.at_s is None)
            await self._settle(world)
            load.check_receipts()
            for task in companions:
                task.cancel()

    def _classroom(self, world: World, load: Workload) -> Classroom | None:
        lesson = self._plan.lesson
        return Classroom(world, lesson, load) if lesson is not None and self._cut.load else None

    def _part(self, name: str) -> str:
        return SILENCE if name in self._cut.mute else self._plan.tricks[name]

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
