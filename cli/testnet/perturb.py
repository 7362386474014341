"""Trouble for a running test network: nodes killed, paused, restarted or wiped, one at a time.

Behind each blow, and while the node is away, a reading has to be committed: that is what "the chain
goes on" means here. What strikes which node is drawn from a seed, so that a course can be repeated.
"""

import asyncio
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final, TypeVar

from chain.crypto import SigningKey
from chain.kinds.device_data import DeviceData
from chain.kinds.device_registry import DeviceRegister
from chain.miners import faulty_max
from chain.payloads import Measurement, Reading
from cli.client import connect
from cli.errors import BadInput, CliError, NotRunning
from cli.load.fleet import make_device
from cli.processes import send_signal, stop
from cli.progress import Progress
from cli.signing import Sender, registrar_sender
from cli.testnet.control import running_processes, start_nodes, stop_nodes, wait_ready
from cli.testnet.network import Network, Node
from node.clock import SystemClock
from node.home import Home, load_genesis

ACTIONS: Final = ("kill", "pause", "restart", "wipe")
COMMIT_S: Final = 60.0
"""A reading that is not committed by then shows that the chain stands still."""
POLL_S: Final = 0.2

_CLOCK: Final = SystemClock()

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What was done to a node, and how the chain took it.

    Parameters
    ----------
    commit_s : float or None
        How long a reading took while the node was away; None: it was not committed, or there are
        too few miners for one to be away.
    back_s : float or None
        How long after its return the node had caught up, further readings included, and, as a
        miner, signed again; None: it did not.
    """

    number: int
    action: str
    node: str
    commit_s: float | None
    back_s: float | None
    went_on: bool


def plan(
    nodes: Sequence[Node], *, names: Sequence[str], actions: Sequence[str], count: int, seed: int
) -> list[tuple[str, Node]]:
    """Return what is to be done to whom, as the seed has it.

    Raises
    ------
    BadInput
        There is no such action or node.
    """
    unknown = [action for action in actions if action not in ACTIONS]
    if unknown:
        raise BadInput(f"there is no action {unknown[0]}", f"choose of {', '.join(ACTIONS)}")
    chosen = [node for node in nodes if not names or node.name in names]
    missing = [name for name in names if name not in {node.name for node in nodes}]
    if missing:
        known = ", ".join(node.name for node in nodes)
        raise BadInput(f"the test network has no node {missing[0]!r}", f"choose one of {known}")
    return [
        (_drawn(actions or ACTIONS, seed, number, "action"), _drawn(chosen, seed, number, "node"))
        for number in range(count)
    ]


def _drawn(options: Sequence[T], seed: int, number: int, purpose: str) -> T:
    digest = sha256(f"perturb/{seed}/{number}/{purpose}".encode()).digest()
    return options[int.from_bytes(digest, "big") % len(options)]


async def perturb(
    network: Network,
    registrar: SigningKey,
    course: Sequence[tuple[str, Node]],
    *,
    away_s: float,
    progress: Progress,
) -> list[Blow]:
    """Strike node after node, and return how the chain took it; all nodes run afterwards.

    Raises
    ------
    NotRunning
        Not all nodes of the network run at the beginning.
    """
    running = running_processes(network)
    down = [node.name for node in network.nodes if node.name not in running]
    if down:
        raise NotRunning(
            f"{', '.join(down)} of {network.directory} does not run",
            f"start all: securenet testnet up --dir {network.directory} --detach",
        )
    device = await _register(network, registrar)
    blows = []
    for number, (action, node) in enumerate(course, 1):
        progress.phase(f"{number}/{len(course)}: {action} {node.name}")
        blows.append(await _strike(network, number, action, node, device, away_s))
    return blows


def figures(blows: Sequence[Blow]) -> dict[str, Any]:
    """Return what a script reads: every blow, and how many the chain took well."""
    return {
        "blows": [asdict(blow) for blow in blows],
        "went_on": sum(blow.went_on for blow in blows),
        "of": len(blows),
    }


async def _strike(
    network: Network, number: int, action: str, node: Node, device: Sender, away_s: float
) -> Blow:
    others = [other for other in network.miners if other != node]
    # A miner that is away has to be one that the others can do without.
    can_wait = node.role == "miner" and faulty_max(len(network.miners)) < 1
    commit_s: float | None = None
    try:
        _take_away(network, action, node)
        if not can_wait:
            commit_s = await _commit(others[number % len(others)], device)
        await asyncio.sleep(away_s)
    finally:
        # Also when this is interrupted: nobody wants to be left with a stopped process.
        _bring_back(network, action, node)
    back_s = await _is_back(network, node, others[0] if others else node, device)
    went_on = back_s is not None and (can_wait or commit_s is not None)
    return Blow(
        number=number,
        action=action,
        node=node.name,
        commit_s=commit_s,
        back_s=back_s,
        went_on=went_on,
    )


def _take_away(network: Network, action: str, node: Node) -> None:
    process = running_processes(network)[node.name]
    if action == "pause":
        send_signal(process, signal.SIGSTOP)
    elif action == "kill":
        send_signal(process, signal.SIGKILL)
        stop([process])
    else:
        stop_nodes(network, [node])
        if action == "wipe":
            shutil.rmtree(Home(network.home(node)).chain.parent)


def _bring_back(network: Network, action: str, node: Node) -> None:
    process = running_processes(network).get(node.name)
    if action == "pause" and process is not None:
        send_signal(process, signal.SIGCONT)
    else:
        start_nodes(network, [node])


async def _is_back(network: Network, node: Node, other: Node, device: Sender) -> float | None:
    """Return how long it takes until the node has what is committed after its return, and signs.

    It is committed by way of `other`: a node is ready some blocks before it has caught up, and may
    not know the device yet.

    A wiped miner is silent for some heights, in which the others can do without nobody else.
    """
    begun_ns = _CLOCK.monotonic_ns()
    try:
        await wait_ready(network, [node], running_processes(network), timeout_s=COMMIT_S)
        async with (
            asyncio.timeout(COMMIT_S),
            connect(node.rpc) as client,
            connect(other.rpc) as source,
        ):
            signing = None
            while signing not in ("yes", "observer"):
                if await _commit(other, device) is None:
                    return None
                await client.wait_height((await source.status())["height"])
                await asyncio.sleep(POLL_S)
                signing = (await client.get("/v1/consensus"))["signing"]
    except (TimeoutError, CliError):
        return None
    return _seconds_since(begun_ns)


async def _register(network: Network, registrar: SigningKey) -> Sender:
    genesis = load_genesis(Home(network.home(network.miners[0])).genesis)
    sender = registrar_sender(genesis, registrar, organisation=None)
    device = make_device(genesis, sender)
    body = DeviceRegister(
        name=f"perturb-{device.address.hex()[:12]}",
        key=device.key.public,
        roles=("sensor",),
        gateway=None,
        limits=None,
    )
    transaction = sender.sign("device.register", body)
    async with connect(network.miners[0].rpc) as client:
        await client.submit(transaction.wire, wait=False)
        answer = await client.wait_committed(transaction.id.hex(), timeout_s=COMMIT_S)
    for node in network.miners:
        async with connect(node.rpc) as client:
            await client.wait_height(answer["height"])
    return device


async def _commit(node: Node, device: Sender) -> float | None:
    """Have a reading committed by way of a node; return how long it took, None if it was not."""
    begun_ns = _CLOCK.monotonic_ns()
    measurement = Measurement(name="perturb", value=1, exponent=0, unit="")
    transaction = device.sign("device.data", DeviceData(payload=Reading(values=(measurement,))))
    try:
        async with asyncio.timeout(COMMIT_S), connect(node.rpc, attempts=3) as client:
            await client.submit(transaction.wire, wait=False)
            await client.wait_committed(transaction.id.hex(), timeout_s=COMMIT_S)
    except (TimeoutError, CliError):
        return None
    return _seconds_since(begun_ns)


def _seconds_since(begun_ns: int) -> float:
    return round((_CLOCK.monotonic_ns() - begun_ns) / 1e9, 2)
