"""Federated rounds on four real miners, with participants that are processes of their own."""

from pathlib import Path
from time import monotonic

import pytest

from cli.exit_codes import ExitCode
from ml_validator.artifact import load_artifact
from ml_validator.nsl_kdd import write_records
from ml_validator.synthetic import generate_mixture
from ml_validator.training import judge
from tests.e2e.consortium import (
    ROWS,
    at_phase,
    await_only,
    gateways,
    register,
    synthetic,
    untrained,
    untrained_file,
)
from tests.e2e.network import LiveNetwork, live_network, patience
from tests.e2e.test_membership import Operators
from tests.federated_rounds.shards import deal, rows_of
from tests.federated_rounds.story import FLOWS, tell

PARTICIPANT_BYTES_MAX = 300 * 2**20
LIAR = Path(__file__).with_name("lying_participant.py")
DEADLINES = "60,20,15,15,15,40"


async def start_round(operators: Operators, network: LiveNetwork, base: Path, *options: str) -> str:
    """Open a round for all participants, and return its id."""
    opened = await operators.run(
        "fl", "start", "--key", str(network.layout.registrar_key), "--base", str(base),
        "--deadlines", DEADLINES, *options,
    )  # fmt: skip
    return str(opened["id"])


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_masked_round_makes_a_model_that_is_voted_in(tmp_path: Path) -> None:
    async with live_network(tmp_path) as network:
        operators, client = Operators(network, tmp_path), await network.client(0)
        with gateways(network, tmp_path, synthetic(10)) as made:
            await register(network, client, made)
            base = untrained_file(tmp_path)
            round_id = await start_round(operators, network, base, "--group-size", "5")
            began = monotonic()
            for gateway in made:
                gateway.start(round_id)
            ended = [await gateway.ended() for gateway in made]
            took_s = monotonic() - began

            assert ended == [ExitCode.OK] * 10, [gateway.said() for gateway in made]
            found = await at_phase(client, round_id, "finished")
            assert {member["status"] for member in found["members"]} == {"included"}
            assert {vote["digest"] for vote in found["votes"]} == {found["aggregate"]}
            peak = max(gateway.peak_bytes for gateway in made)
            assert 0 < peak <= PARTICIPANT_BYTES_MAX
            print(f"10 participants: {took_s:.1f} s, at most {peak / 2**20:.0f} MiB each")

        rows = tmp_path / "publisher.txt"
        write_records(rows, generate_mixture(200, 1))
        key = str(network.layout.registrar_key)
        published = await operators.run(
            "fl", "publish", round_id, "--key", key, "--data", str(rows)
        )
        model = published["model"]
        data = b"".join([part async for part in client.blob(model)])
        unseen = generate_mixture(200, 2)
        before, after = judge(untrained(), unseen), judge(load_artifact(data), unseen)
        assert after.accuracy_ppm > before.accuracy_ppm + 100_000

        opened = await operators.run("model", "activate", model, "--key", operators.key(0))
        for number in (1, 2):
            await operators.run("miner", "vote", opened["id"], "--key", operators.key(number))
        async with patience("the model is voted in"):
            known = {entry["id"]: entry for entry in await operators.run("model", "list")}
            assert known[model]["active_from_height"]
        await network.wait_equal()


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_participants_that_die_or_lie_do_not_stop_a_round(tmp_path: Path) -> None:
    async with live_network(tmp_path) as network:
        operators, client = Operators(network, tmp_path), await network.client(0)
        with gateways(network, tmp_path, synthetic(7)) as made:
            await register(network, client, made)
            (sensor,) = await network.register_devices(1)
            base = untrained_file(tmp_path)
            victim, other, liar = made[0], made[1], made[2]
            for gateway in made:
                gateway.rpc = network.layout.nodes[0].rpc
            for phase, comes_back in (
                ("share", True),
                ("commit", False),
            ):
                round_id = await start_round(operators, network, base, "--group-size", "7")
                for gateway in made:
                    lies = gateway is liar and phase == "commit"
                    # From the same base once more.
                    gateway.start(round_id, "--unmasked", program=LIAR if lies else None)
                await at_phase(client, round_id, phase, "aggregate", "finished", "failed")
                victim.kill()
                if comes_back:
                    victim.start(round_id, "--unmasked")
                else:
                    await await_only(client, round_id, phase, victim, sensor)
                found = await at_phase(client, round_id, "finished", "failed")

                assert found["phase"] == "finished", found
                statuses = {member["device"]: member["status"] for member in found["members"]}
                assert statuses[other.id.hex()] == "included"
                if comes_back:
                    assert await victim.ended() == ExitCode.OK, victim.said()
                for gateway in made[1:]:
                    code = await gateway.ended()
                    is_caught = gateway is liar and phase == "commit"
                    assert code == (ExitCode.REFUSED if is_caught else ExitCode.OK), gateway.said()
            assert "wrong_share" in liar.said()
        await network.wait_equal()


@pytest.mark.slow
@pytest.mark.attack("F6")
@pytest.mark.timeout(1_800)
async def test_round_after_round_the_model_gets_better(tmp_path: Path) -> None:
    """`make federated`, made short: rows that are made up, and all who are killed come back."""
    dealt = deal(rows_of(None, count=ROWS), seed=1)

    outcome = await tell(tmp_path, dealt, rounds=2, seed=1, all_come_back=True)

    assert outcome.rounds[-1].accuracy_ppm > outcome.base_ppm + 100_000
    assert 0 < outcome.peak_bytes <= PARTICIPANT_BYTES_MAX
    assert outcome.judged == FLOWS
