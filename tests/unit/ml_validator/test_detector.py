import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import DecodeError
from chain.types import Digest
from ml_validator.bundled import bundled_model
from ml_validator.detector import JUDGED_TOGETHER_MAX, Detector, pack_flow
from ml_validator.errors import InvalidFlow, MalformedArtifact, UnknownSchema
from ml_validator.synthetic import generate_mixture
from tests.unit.ml_validator.helpers import flows, make_flow

ARTIFACT, _ = bundled_model()
DETECTOR = Detector(ARTIFACT)


def test_a_detector_is_made_from_the_bytes_of_its_model():
    detector = Detector.from_bytes(ARTIFACT.data)
    assert detector.model == ARTIFACT.digest
    assert detector.threshold_ppm == ARTIFACT.threshold_ppm


def test_bytes_that_are_no_model_make_no_detector():
    with pytest.raises(MalformedArtifact):
        Detector.from_bytes(ARTIFACT.data[:-1])


def test_no_flows_have_no_scores():
    assert DETECTOR.judge([]) == []


def test_one_unreadable_flow_leaves_all_unjudged():
    with pytest.raises(UnknownSchema):
        DETECTOR.judge([make_flow(), make_flow(schema=Digest(bytes(32)))])
    with pytest.raises(InvalidFlow):
        DETECTOR.judge([make_flow(), make_flow(count=-1)])


def test_a_refused_flow_is_named_by_its_place_in_the_whole_sequence():
    batch = [make_flow()] * (JUDGED_TOGETHER_MAX + 3) + [make_flow(count=-1)]
    with pytest.raises(InvalidFlow) as caught:
        DETECTOR.judge(batch)
    assert caught.value.index == JUDGED_TOGETHER_MAX + 3


def test_packed_flows_have_the_scores_of_flows_and_none_where_columns_differ():
    model_schema = ARTIFACT.schema.digest
    flows = [record.flow for record in generate_mixture(300, seed=2)]
    strange = [
        make_flow(schema=Digest(bytes(32))),
        make_flow(categories=("tcp",)),
        make_flow(dst_bytes=2**63),
    ]

    scores = DETECTOR.judge_packed(
        [pack_flow(flow, model_schema) for flow in (*strange, *flows, *strange)]
    )

    assert len(flows) > JUDGED_TOGETHER_MAX
    assert scores == [None] * 3 + DETECTOR.judge(flows) + [None] * 3
    assert DETECTOR.judge_packed([]) == []


def test_a_packed_integer_below_0_is_refused():
    with pytest.raises(DecodeError, match="below 0"):
        DETECTOR.judge_packed([pack_flow(make_flow(count=-1), ARTIFACT.schema.digest)])


@pytest.mark.parametrize("size", [1, 3, 64, 129, JUDGED_TOGETHER_MAX - 1, JUDGED_TOGETHER_MAX + 1])
def test_scores_are_equal_for_every_batch_size(size):
    batch = [record.flow for record in generate_mixture(80, seed=2)]
    whole = DETECTOR.judge(batch)
    assert all(0 <= score <= 1_000_000 for score in whole)
    parts = [DETECTOR.judge(batch[i : i + size]) for i in range(0, len(batch), size)]
    assert [score for part in parts for score in part] == whole


@settings(max_examples=50)
@given(st.lists(flows, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_scores_do_not_depend_on_order_or_company(batch, random):
    scores = [DETECTOR.judge([flow])[0] for flow in batch]
    order = list(range(len(batch)))
    random.shuffle(order)
    cut = random.randrange(len(batch) + 1)
    shuffled = [batch[i] for i in order]
    judged = DETECTOR.judge(shuffled[:cut]) + DETECTOR.judge(shuffled[cut:])
    assert judged == [scores[i] for i in order]
    assert all(type(score) is int and 0 <= score <= 1_000_000 for score in judged)


def test_a_score_at_the_threshold_is_anomalous():
    threshold = DETECTOR.threshold_ppm
    assert DETECTOR.label(threshold) == "anomalous"
    assert DETECTOR.label(threshold - 1) == "normal"
    assert DETECTOR.label(1_000_000) == "anomalous"
    assert DETECTOR.label(0) == "normal"
