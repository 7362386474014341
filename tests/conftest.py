"""What every test stands on."""

import os
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# The suite runs in parallel on busy machines, where the time of one example says nothing.
settings.register_profile(
    "suite", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("suite")

# A developer's own node and its settings have no part in a test.
for name in ("SECURENET_HOME", "SECURENET_RPC"):
    os.environ.pop(name, None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the modules that take long, lest all but one worker wait for them at the end."""
    long = {
        item.path for item in items if item.get_closest_marker("slow") or "e2e" in item.path.parts
    }
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _logs_as_at_first():
    """Undo what a command has set up: its level would hide lines from the tests that follow."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def nsl_kdd() -> Path:
    """Return the folder of the NSL-KDD files, or skip: the data set is not part of the project."""
    folder = os.environ.get("SECURENET_NSL_KDD")
    if not folder:
        pytest.skip("SECURENET_NSL_KDD names no folder with the NSL-KDD files")
    return Path(folder)
