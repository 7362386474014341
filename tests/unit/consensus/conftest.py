"""What the tests of consensus share."""

import pytest

from chain import crypto
from consensus import verifier


class Count:
    """Counts the verifications since it was asked last."""

    def __init__(self):
        self._calls = 0

    def __call__(self, *arguments):
        self._calls += 1
        return crypto.verify(*arguments)

    def since(self):
        calls, self._calls = self._calls, 0
        return calls


@pytest.fixture
def count(monkeypatch):
    """Return the count of signatures that are really verified."""
    count = Count()
    monkeypatch.setattr(verifier, "verify", count)
    return count
