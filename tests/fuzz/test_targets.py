"""No input does more to a reader of bytes than be refused: a short campaign on each of them."""

import pytest

from tests.fuzz.campaign import CORPUS, folder_of, fuzz, load, replay, saved
from tests.fuzz.targets import TARGETS

INPUTS = 600


@pytest.mark.attack("D3", "D6")
@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_accepts_what_is_canonical_and_refuses_the_rest(name):
    outcome = fuzz(TARGETS[name], inputs=INPUTS, seed="short")

    assert outcome.failure is None
    assert outcome.accepted > 0
    assert outcome.refused > 0


@pytest.mark.parametrize(
    ("name", "path"),
    [(name, path) for name, target in TARGETS.items() for path in saved(target)],
    ids=lambda part: part if isinstance(part, str) else part.name,
)
def test_what_a_reader_has_failed_at_once_it_withstands(name, path):
    replay(TARGETS[name], load(path))


def test_every_saved_input_belongs_to_a_target():
    folders = {folder_of(name) for name in TARGETS}

    assert len(folders) == len(TARGETS)
    assert {path for path in CORPUS.iterdir() if path.is_dir()} <= folders
