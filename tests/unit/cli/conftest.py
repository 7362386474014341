"""A fake node, and a way to run commands as a shell does."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chain.crypto import Algorithm, signing_key
from cli.main import run
from node.keys import create_key
from tests.unit.cli.fake_node import FakeNode, make_genesis, serving


@dataclass(frozen=True)
class Ended:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Securenet = Callable[..., Ended]


@pytest.fixture
def securenet(capsys: pytest.CaptureFixture[str]) -> Securenet:
    """Return a function that runs one command line in this process."""

    def call(*arguments: object) -> Ended:
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ended(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNode]:
    """Serve a fake node and make it the one that commands ask."""
    with serving(FakeNode(make_genesis())) as fake:
        monkeypatch.setenv("SECURENET_RPC", fake.url)
        yield fake


class Seed:
    """A source of randomness that gives one seed."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    def bytes(self, size: int) -> bytes:
        return self._seed[:size]

    def below(self, bound: int) -> int:
        return 0


def key_file(path: Path, letter: str, algorithm: Algorithm = "ed25519") -> Path:
    """Write the key file of the seed that repeats `letter`."""
    key = create_key(path, algorithm, Seed(letter.encode() * 32))
    assert key.public == signing_key(algorithm, letter.encode() * 32).public
    return path


@pytest.fixture
def registrar(tmp_path: Path) -> Path:
    """Return the key file of the fake chain's registrar."""
    return key_file(tmp_path / "registrar.json", "r", "p256")


@pytest.fixture
def miner(tmp_path: Path) -> Path:
    """Return the key file of the fake chain's only miner."""
    return key_file(tmp_path / "miner.json", "m")


@pytest.fixture
def sensor(tmp_path: Path) -> Path:
    """Return the key file of a device."""
    return key_file(tmp_path / "sensor.json", "s")
