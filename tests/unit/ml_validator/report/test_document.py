import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from ml_validator.report.description import describe
from ml_validator.report.document import Report, table_1, table_2, to_html, to_json
from ml_validator.report.protocol import run_all
from ml_validator.report.published import TABLE_2
from tests.unit.ml_validator.report.test_protocol import RECORDS


@pytest.fixture(scope="module")
def report():
    return Report(
        data={"KDDTrain+.txt": "ab<&>cd"},
        versions={"python": "3.11"},
        description=describe(RECORDS),
        runs=run_all(RECORDS, seeds=(42, 43)),
    )


def with_duration(record, seconds):
    """Return a row that lasts so long; the duration is the first integer."""
    integers = (seconds, *record.flow.integers[1:])
    return replace(record, flow=replace(record.flow, integers=integers))


class Page(HTMLParser):
    """Reads a page, minding that every element is closed in its turn."""

    VOID = frozenset({"br", "meta"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_table_1_says_how_near_any_type_comes_to_what_is_printed(report):
    back = [replace(row, label="back") for row in RECORDS[:3]]
    lasting = [with_duration(row, seconds) for row, seconds in zip(back, (0, 1, 5), strict=True)]
    others = [with_duration(row, 9) for row in RECORDS if row.label == "normal"]

    first, second, *rest = table_1(describe([*lasting, *others]))

    assert (first["published"], first["attack"]) == ([0.480376, 0.429223], "back")
    assert first["own"] == [2.0, 1.0]
    # Of 0, 1 and 5 s over 9 s.
    assert (first["nearest"]["label"], first["nearest"]["normalisation"]) == (
        "back",
        "seconds over the longest",
    )
    assert first["nearest"]["off"] == pytest.approx(0.429223 - 1 / 9)
    assert (second["attack"], second["own"]) == ("buffer_overflow", None), "no row has that label"
    assert [row["attack"] for row in rest] == [None, None]


def test_table_2_has_the_published_row_beside_the_measured_ones(report):
    rows = table_2(report.runs)

    assert [(row["model"], row["difficulty"]) for row in rows] == [
        (model, leaks) for model in TABLE_2 for leaks in (True, False)
    ]
    for row in rows:
        assert row["published"]["macro_f1"] == TABLE_2[row["model"]].macro_f1
        own = [
            run.scores.accuracy * 100
            for run in report.runs
            if (run.model, run.difficulty) == (row["model"], row["difficulty"])
        ]
        assert row["measured"]["accuracy"] == {
            "mean": pytest.approx(sum(own) / 2),
            "min": min(own),
            "max": max(own),
            "first": own[0],
        }


def test_the_document_is_json_and_equal_reports_give_equal_text(report):
    text = to_json(report)

    assert json.loads(text)["table_2"] == table_2(report.runs)
    assert text == to_json(report)


def test_the_page_is_whole_and_says_what_was_measured(report):
    html = to_html(report)
    page = Page()
    page.feed(html)

    assert page.open == []
    # Figures 5 to 8, recall, ROC, precision and recall, a confusion matrix for each model.
    assert page.seen.count("svg") == 9
    for row in table_2(report.runs):
        assert f"{row['measured']['accuracy']['mean']:.2f}" in html
    for row in table_1(report.description):
        assert f"<td>{row['nearest']['off']:.3f}</td>" in html
    assert "ab&lt;&amp;&gt;cd" in html
    assert html == to_html(report)


def test_every_plot_is_drawn_with_words(report):
    html = to_html(report)
    for start in html.split("<svg")[1:]:
        svg = ElementTree.fromstring("<svg" + start.split("</svg>")[0] + "</svg>")
        words = [
            text.text for text in svg.iter() if text.tag.endswith("text") and text.text is not None
        ]
        assert len(words) > 5
