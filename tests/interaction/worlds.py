"""Random worlds: loss, reordering, partitions, crashes, lost disks, and up to f liars."""

import random
import sys
from typing import Any

from consensus.errors import ConsensusError
from consensus.timers import NS_PER_MS
from tests.interaction.cluster import Cluster, Liar

CHAOS_MS = 12_000
CALM_MS = 90_000
CALM_BLOCKS = 3


class Nemesis:
    """A network that aims: loss at random seldom leaves the states that matter.

    *Starving*: some miners get no message of one type. *Lonely*: only one miner gets COMMITs; as
    soon as it has committed it is cut off, perhaps all others lose power, and they have to find
    the same block again without it.
    """

    def __init__(self, cluster, rng):
        self.cluster = cluster
        self.rng = rng
        self.type = b"-"
        self.hungry: frozenset[int] = frozenset()
        self.lonely: Any = None
        self.alone_from = 0
        self.blackout = False

    def choose(self):
        """Pick what to do next, and return for how long in milliseconds."""
        rng, nodes = self.rng, self.cluster.nodes
        self.type, self.hungry, self.lonely = b"-", frozenset(), None
        choice = rng.random()
        if choice < 0.3:
            self.lonely = rng.choice(nodes)
            self.alone_from = self.lonely.height
            self.blackout = rng.random() < 0.6
            return rng.randrange(2_000, 5_000)
        if choice < 0.6:
            self.type = rng.choice((b"commit", b"prepare", b"round-change", b"pre-prepare"))
            self.hungry = frozenset(rng.sample(range(len(nodes)), rng.randrange(len(nodes))))
        return rng.randrange(50, 1_500)

    def on_commit(self, node):
        """Notice that the lonely one has committed."""
        if node is self.lonely and node.height > self.alone_from and self.blackout:
            self.blackout = False
            for other in self.cluster.nodes:
                if other is not node and other.alive:
                    other.crash()
                    self.cluster.at(
                        self.cluster.now + self.rng.randrange(10, 300) * NS_PER_MS, other.start
                    )

    def __call__(self, sender, receiver, method, args):
        """Tell whether something is let through."""
        type = args[0][2:] if method == "on_data" else b""
        if self.lonely is not None:
            if self.lonely.height > self.alone_from:
                return self.lonely not in (sender, receiver)
            return receiver is self.lonely or not type.startswith(b"commit")
        return receiver.index not in self.hungry or not type.startswith(self.type)


class Stuck(AssertionError):
    """A healed cluster that does not go on."""


def run_world(seed, *, remote=False):
    """Live through one world; raise where a law is broken, else return what happened in it.

    With `remote`, every honest miner has its key in another process.

    First chaos, in which only agreement is asked for; then all links heal and every miner is up,
    and the cluster has to commit more blocks within bounded time and rounds.
    """
    rng = random.Random(seed)
    n = rng.choice((1, 2, 3, 4, 4, 4, 4, 5, 6, 7))
    f = (n - 1) // 3
    wiped = None
    liars = {}
    for index in rng.sample(range(n), f):
        if wiped is None and rng.random() < 0.2:
            wiped = index
        elif rng.random() < 0.8:
            liars[index] = frozenset(rng.sample(Liar.HABITS, rng.randrange(1, 4)))
    cluster = Cluster(n=n, seed=seed, liars=liars, started=False, remote=range(n) if remote else ())
    for node in cluster.nodes:
        node.skew_ms = rng.randrange(-200, 200)
        cluster.at(cluster.now + rng.randrange(500) * NS_PER_MS, node.start)
    cluster.drop = rng.choice((0, 0.02, 0.1, 0.3))
    cluster.duplicate = rng.choice((0, 0.1))
    cluster.signer_loss = 0.03
    cluster.delay_ms = rng.choice(((1, 5), (1, 50), (1, 400), (1, 1_500)))
    cluster.check_ms_max = rng.choice((5, 100, 900))
    cluster.execute_ms = rng.choice((1, 100, 500))
    crashing = rng.random() < 0.6
    highest = 0
    nemesis = cluster.filter = Nemesis(cluster, rng)
    end = cluster.now + CHAOS_MS * NS_PER_MS
    while cluster.now < end:
        cluster.run(for_ms=nemesis.choose())
        highest = max(highest, highest_round(cluster))
        choice = rng.random()
        if choice < 0.25:
            members = list(range(n))
            rng.shuffle(members)
            cut = rng.randrange(1, n) if n > 1 else 1
            cluster.partition(members[:cut], members[cut:])
        elif choice < 0.5:
            cluster.heal()
        elif crashing and choice < 0.85:
            node = rng.choice(cluster.nodes)
            if node.alive:
                node.crash_in = rng.randrange(1, 8)
        elif wiped is not None:
            node, wiped = cluster.nodes[wiped], None
            node.crash()
            node.wipe()
            cluster.at(cluster.now + rng.randrange(1, 500) * NS_PER_MS, node.start)
    cluster.heal()
    cluster.filter = None
    cluster.drop = cluster.duplicate = cluster.signer_loss = 0
    cluster.delay_ms = (1, 10)
    cluster.check_ms_max = 50
    for node in cluster.nodes:
        node.crash_in = None
    cluster.run(for_ms=3_100)
    assert all(node.alive for node in cluster.nodes if not isinstance(node, Liar))
    target = max(node.height for node in cluster.honest) + CALM_BLOCKS
    calm_from = cluster.now
    if not cluster.run_to(target, for_ms=CALM_MS):
        heights = [node.height for node in cluster.nodes]
        raise Stuck(f"seed {seed}: heights {heights}, wanted {target} in {CALM_MS} ms")
    return {
        "n": n,
        "liars": len(liars),
        "heights": target,
        "calm_ms": (cluster.now - calm_from) // NS_PER_MS,
        "highest_round": highest,
        "proofs": tuple(proof for node in cluster.honest for proof in node.evidence),
        "said": frozenset(message for node in cluster.honest for message in node.said),
        "keys": tuple(key.public for key in cluster.keys),
        "evidence": sum(len(node.evidence) for node in cluster.honest),
        "accused": {proof.miner for node in cluster.honest for proof in node.evidence},
        "liar_ids": {node.id for node in cluster.nodes if isinstance(node, Liar)},
        "rejected": sum(len(node.rejected) for node in cluster.honest),
        "commits": tuple(cluster.commits),
    }


def highest_round(cluster):
    """Return the highest round an honest miner is in."""
    snapshots = [node.replica.snapshot() for node in cluster.honest if node.alive]
    return max((s.round for s in snapshots if s is not None), default=0)


def main(first, count):
    """Run many worlds; print what is wrong with any, and the sum."""
    failed, calm_ms, evidence = [], [], 0
    for seed in range(first, first + count):
        try:
            result = run_world(seed)
            assert result["accused"] <= result["liar_ids"], "an honest miner was framed"
        except (AssertionError, ConsensusError) as error:
            failed.append(seed)
            print(f"seed {seed}: {error}")
        else:
            calm_ms.append(result["calm_ms"])
            evidence += result["evidence"]
    print(
        f"{count} worlds, {len(failed)} failed, {evidence} proofs, "
        f"{CALM_BLOCKS} blocks after healing within {max(calm_ms, default=0)} ms"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
