"""An old copy of a node's data is put back on real files: no second signature, and it says so."""

import asyncio
import re
import shutil

import pytest

from tests.e2e.network import commit, live_network, patience, reading

OLDER = "the log of consensus is an older copy"


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("guarded", [True, False])
async def test_b7_a_restored_backup_of_the_data_convicts_nobody(tmp_path, guarded):
    async with live_network(tmp_path, start=()) as network:
        home = network.home(0)
        if guarded:
            config = home / "config.toml"
            setting = f'guard = "{tmp_path / "guard"}"  #'
            config.write_text(re.sub("# guard =  #", setting, config.read_text()))
        network.start()
        await network.wait_ready()
        (device,) = await network.register_devices(1)
        client = await network.client(1)
        await commit(client, reading(device, 1))
        network.kill(0)
        shutil.copytree(home / "data", tmp_path / "backup")
        network.start(0)
        await network.wait_ready()
        for number in range(2, 8):
            await commit(client, reading(device, number))
        await network.wait_equal()
        network.kill(0)
        shutil.rmtree(home / "data")
        shutil.copytree(tmp_path / "backup", home / "data")
        network.start(0)
        restored = await network.client(0)
        await network.wait_ready()

        async with patience("the node signs again"):
            number = 8
            while (await restored.get("/v1/consensus"))["signing"] != "yes":
                await commit(client, reading(device, number))
                number += 1
                await asyncio.sleep(0.2)
        await network.wait_equal()
        assert (await client.get("/v1/evidence"))["items"] == []
        said = network.layout.log(network.layout.nodes[0]).read_text()
        assert (OLDER in said) == guarded
