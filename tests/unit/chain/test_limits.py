"""chain.limits: the grammar of rate limits."""

import re

import pytest
from hypothesis import given

from chain.errors import DecodeError
from chain.limits import Limits, RateWindow, parse_limits, render_limits
from tests.strategies import rate_limits


def test_windows_are_read_in_order():
    assert parse_limits("300:60,10:1") == (
        RateWindow(capacity=300, seconds=60),
        RateWindow(capacity=10, seconds=1),
    )


def test_the_empty_text_limits_nothing():
    assert parse_limits("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "10:",
        ":1",
        "0:1",
        "1:0",
        "01:1",
        "1:01",
        "-1:1",
        "+1:1",
        "1 :1",
        "1:1,",
        ",1:1",
        "1:1;2:2",
        "1:601",
        "1000000001:1",
        "1:1,2:1",
        "1:1,1:2,1:3,1:4,1:5",
        "1.5:1",
        "\u0661:1",
        "1:1\n",
        "1" * 10_000 + ":1",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(DecodeError):
        parse_limits(text)


@pytest.mark.parametrize("text", ["1000000000:600", "1:1,1:2,1:3,1:4"])
def test_the_bounds_themselves_are_allowed(text):
    assert render_limits(parse_limits(text)) == text


@given(rate_limits())
def test_what_is_written_is_read_again(limits):
    text = render_limits(limits)

    assert parse_limits(text) == limits
    assert re.fullmatch(Limits().describe()["pattern"], text)


@pytest.mark.parametrize("value", [None, 1, b"1:1", []])
def test_limits_are_a_text(value):
    with pytest.raises(DecodeError):
        Limits().read(value, "limits")
