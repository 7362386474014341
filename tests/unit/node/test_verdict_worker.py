"""The judging process, in this one: requests in, answers out, and nothing that ends it."""

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from chain import codec
from chain.errors import DecodeError
from chain.kinds.verdict import SCORE_MAX
from chain.payloads import Flow
from chain.types import Digest
from ml_validator.artifact import Artifact
from ml_validator.bundled import bundled_model
from ml_validator.detector import Detector, pack_flow
from ml_validator.errors import MissingModel, ModelError
from ml_validator.features import (
    NSL_KDD_SCHEMA,
    CategoricalColumn,
    FeatureSchema,
    IntegerColumn,
)
from ml_validator.forest import LEAF
from ml_validator.registration import Registration
from node.verdict_worker import (
    LENGTH_SIZE,
    MODELS_KEPT_MAX,
    Worker,
    decode_answer,
    decode_request,
    encode_answer,
    encode_failure,
    encode_load,
    encode_request,
    serve,
)
from tests.unit.ml_validator.helpers import make_forest

ARTIFACT, _ = bundled_model()
MODEL = Registration.of(ARTIFACT)
DETECTORS = {ARTIFACT.digest: Detector(ARTIFACT)}
WORKER = Worker(*DETECTORS.values())
UNKNOWN = replace(MODEL, model=Digest(bytes(32)))


def flow(
    duration: int = 0, service: str = "http", *, integers: int = 38, categories: int = 3
) -> Flow:
    return Flow(
        schema=NSL_KDD_SCHEMA.digest,
        integers=(duration,) + (1,) * (integers - 1),
        categories=("tcp", service, "SF", *("x",) * categories)[:categories],
    )


def body(framed: bytes) -> bytes:
    assert int.from_bytes(framed[:LENGTH_SIZE], "big") == len(framed) - LENGTH_SIZE
    return framed[LENGTH_SIZE:]


def test_a_request_reads_back_as_it_was_written():
    flows = (flow(), flow(7, "ftp"))

    packed = tuple([pack_flow(each, MODEL.schema) for each in flows])
    assert decode_request(body(encode_request(MODEL, flows))) == (MODEL, packed)


def test_an_answer_reads_back_as_it_was_written():
    assert decode_answer(body(encode_answer([0, None, SCORE_MAX]))) == [0, None, SCORE_MAX]


def test_a_failure_reads_back_as_the_error_that_it_is():
    with pytest.raises(ModelError, match="no model"):
        decode_answer(body(encode_failure("no model")))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\xc0", codec.encode(()), codec.encode(("other", b""))),
        *(codec.encode(("scores", scores)) for scores in ("x", bytes(2), bytes(4))),
    ],
)
def test_what_is_no_answer_is_refused(data):
    with pytest.raises(DecodeError):
        decode_answer(data)


def test_flows_are_judged_as_the_detector_judges_them():
    flows = [flow(), flow(1_000), flow(0, "private")]

    answer = WORKER.answer(body(encode_request(MODEL, flows)))

    assert decode_answer(body(answer)) == DETECTORS[ARTIFACT.digest].judge(flows)


def test_a_model_of_data_that_no_build_knows_is_loaded_and_judges():
    schema = FeatureSchema(
        name="office",
        integers=(IntegerColumn(name="bytes", unit="bytes", scale=1),),
        categories=(CategoricalColumn(name="proto", values=("tcp", "udp")),),
    )
    tree = [(0, 100), (LEAF, 10_000), (LEAF, 0)]
    artifact = Artifact(
        model=make_forest(tree, column_count=schema.column_count),
        schema=schema,
        threshold_ppm=500_000,
    )
    flows = [Flow(schema=schema.digest, integers=(size,), categories=("tcp",)) for size in (7, 700)]
    worker = Worker()

    worker.answer(body(encode_load(artifact.data)))
    answer = worker.answer(body(encode_request(Registration.of(artifact), [*flows, flow()])))

    assert decode_answer(body(answer)) == [1_000_000, 0, None]


def test_a_flow_that_the_model_cannot_read_is_said_to_be_so_and_spoils_no_other():
    flows = [flow(), flow(integers=3), flow(9)]

    scores = decode_answer(body(WORKER.answer(body(encode_request(MODEL, flows)))))

    good = DETECTORS[ARTIFACT.digest].judge([flows[0], flows[2]])
    assert scores == [good[0], None, good[1]]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 20,
        codec.encode((b"\x00" * 32,)),
        codec.encode(("model", [])),
        codec.encode(("judge", [ARTIFACT.digest], [])),
        body(encode_request(UNKNOWN, [flow()])),
    ],
)
def test_what_cannot_be_judged_is_answered_with_a_failure(data):
    with pytest.raises(ModelError):
        decode_answer(body(WORKER.answer(data)))


def test_it_keeps_the_latest_few_of_the_models_that_it_was_sent():
    worker = Worker(*DETECTORS.values())
    models = [
        Artifact(
            model=make_forest([(LEAF, votes)], column_count=ARTIFACT.schema.column_count),
            schema=ARTIFACT.schema,
            threshold_ppm=500_000,
        )
        for votes in range(MODELS_KEPT_MAX + 1)
    ]
    for model in models:
        assert decode_answer(body(worker.answer(body(encode_load(model.data))))) == []

    for model in (*models[1:], ARTIFACT):
        question = body(encode_request(Registration.of(model), [flow()]))
        assert len(decode_answer(body(worker.answer(question)))) == 1
    with pytest.raises(MissingModel):
        decode_answer(
            body(worker.answer(body(encode_request(Registration.of(models[0]), [flow()]))))
        )


@pytest.mark.attack("F8")
def test_nothing_in_the_node_or_the_models_can_read_what_names_code():
    root = Path(__file__).parents[3]
    for package in ("chain", "consensus", "ml_validator", "node", "cli"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text()
            for module in re.findall(r"^\s*(?:import|from)\s+(\w+)", text, re.M):
                assert module not in {"pickle", "joblib", "dill", "marshal", "shelve"}, path
            # numpy reads pickles, too.
            assert not re.search(r"\b(?:np|numpy)\.load\b|allow_pickle", text), path


@pytest.mark.parametrize("cut", [0, 1, 3, 5])
def test_it_serves_until_its_input_ends(cut):
    requests = [encode_request(MODEL, [flow(number)]) for number in range(3)]
    source = io.BytesIO(b"".join(requests) + requests[0][:cut])
    sink = io.BytesIO()

    serve(source, sink)

    answers = []
    sink.seek(0)
    while length := sink.read(LENGTH_SIZE):
        answers.append(sink.read(int.from_bytes(length, "big")))
    assert [decode_answer(answer) for answer in answers] == [
        DETECTORS[ARTIFACT.digest].judge([flow(number)]) for number in range(3)
    ]
