"""The arrows between the packages, and what each package may reach of the world."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tidy.tree import PACKAGES, ROOT

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
TRAINING_LIBRARIES = ("joblib", "pandas", "scipy", "sklearn")


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache", "--no-logo"],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )


def broken_contracts(report: str) -> list[str]:
    return re.findall(r"^(.+) BROKEN$", report, flags=re.MULTILINE)


@pytest.fixture
def skeleton(tmp_path: Path) -> Path:
    """Return a project of five empty packages under this project's contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module in (*PACKAGES, "node.storage", "node.rpc"):
        folder = tmp_path / module.replace(".", "/")
        folder.mkdir()
        (folder / "__init__.py").touch()
    return tmp_path


def test_every_import_obeys_the_layers():
    result = lint_imports(ROOT)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("path", "statement", "contract"),
    [
        ("chain/x.py", "import node", "arrows point downwards only"),
        ("node/x.py", "import cli", "arrows point downwards only"),
        ("consensus/x.py", "import ml_validator", "arrows point downwards only"),
        ("ml_validator/x.py", "import consensus", "arrows point downwards only"),
        ("chain/x.py", "import asyncio", "chain and consensus are pure"),
        ("chain/x.py", "from os import path", "chain and consensus are pure"),
        ("consensus/x.py", "import time", "chain and consensus are pure"),
        ("consensus/x.py", "import numpy as np", "chain and consensus are pure"),
        (
            "ml_validator/x.py",
            "import socket",
            "ml_validator has no network, no clock and no store",
        ),
        ("node/service.py", "import plyvel", "LevelDB only in node.storage.leveldb"),
        ("node/service.py", "import aiohttp", "HTTP only in node.rpc and cli.client"),
        ("cli/main.py", "import aiohttp", "HTTP only in node.rpc and cli.client"),
        ("cli/main.py", "import sklearn", "scikit-learn only in ml_validator"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(skeleton, path, statement, contract):
    (skeleton / path).write_text(f"{statement}\n")

    result = lint_imports(skeleton)

    assert result.returncode == 1, result.stdout + result.stderr
    assert contract in broken_contracts(result.stdout)


def test_training_code_may_not_become_reachable_from_a_node(skeleton):
    (skeleton / "ml_validator/training.py").write_text("import sklearn\n")
    (skeleton / "ml_validator/__init__.py").write_text("import ml_validator.training\n")
    (skeleton / "node/service.py").write_text("import ml_validator\n")

    result = lint_imports(skeleton)

    assert broken_contracts(result.stdout) == [
        "a node reaches no training library, directly or through others"
    ]


def test_the_named_places_may_use_their_libraries(skeleton):
    (skeleton / "node/storage/leveldb.py").write_text("import plyvel\n")
    (skeleton / "node/rpc/app.py").write_text("import aiohttp\n")
    (skeleton / "cli/client.py").write_text("import aiohttp\n")
    (skeleton / "ml_validator/training.py").write_text("import sklearn\n")
    (skeleton / "cli/model.py").write_text("import ml_validator.training\n")

    result = lint_imports(skeleton)

    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_every_module_of_node_loads_no_training_library():
    # In a process of its own, for other tests of this one have long imported scikit-learn.
    program = f"""
import importlib, pkgutil, sys
import node
for module in pkgutil.walk_packages(node.__path__, "node."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print(*sorted(set({TRAINING_LIBRARIES!r}) & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True
    )

    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("node/service.py", "import time\n\nSTARTED = time.time()\n"),
        ("node/service.py", "from time import monotonic_ns\n"),
        ("cli/demo.py", "import datetime\n\nNOW = datetime.datetime.now()\n"),
        ("ml_validator/training.py", "import random\n"),
        ("node/p2p/peers.py", "import os\n\nNONCE = os.urandom(8)\n"),
        ("cli/keys.py", "import secrets\n"),
        ("node/service.py", "from asyncio import create_task\n"),
        ("ml_validator/artifact.py", "import pickle\n"),
        ("ml_validator/artifact.py", "from joblib import load\n"),
    ],
)
def test_time_randomness_tasks_and_pickles_are_banned_elsewhere(path, source):
    assert "TID251" in ruff(path, source).stdout


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("node/clock.py", "import time\n\nSTARTED = time.time_ns()\n"),
        ("node/random_source.py", "import os\n\nNONCE = os.urandom(8)\n"),
    ],
)
def test_the_two_modules_of_time_and_randomness_are_excepted(path, source):
    result = ruff(path, source)

    assert result.returncode == 0, result.stdout + result.stderr


def ruff(path: str, source: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251"),
            *("--output-format", "concise", "--stdin-filename", path, "-"),
        ],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
    )
