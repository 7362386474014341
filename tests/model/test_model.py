"""The model of agreement, at a size that takes seconds; `make model` visits millions of states."""

import re

import pytest

from tests.model.run import FLAWS, MODEL, configurations, explore, missing_tools, with_flaw

pytestmark = pytest.mark.skipif(bool(missing_tools()), reason="needs spin and gcc")


@pytest.mark.parametrize("configuration", configurations(2, 1), ids=" ".join)
def test_no_state_of_two_rounds_violates_the_model(configuration, tmp_path):
    result = explore(configuration, tmp_path)
    assert result.violated is None
    assert result.states > 1_000


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flaw_of_the_protocol_is_found(flaw, tmp_path):
    assert explore(with_flaw(flaw), tmp_path).violated is not None


def test_every_flaw_that_the_model_knows_is_planted():
    known = set(re.findall(r"^#ifdef ([A-Z_]+)$", MODEL.read_text(), re.MULTILINE))
    assert known == {flaw for flaw in FLAWS if "=" not in flaw}
