"""The process that judges flows, beside the miner's: ``python -m node.verdict_worker``.

Reads requests from standard input and writes answers to standard output, each a length of four
bytes and a canonical array. It ends when its input does.

It has the model of the package; the artefacts of others are sent to it, and it keeps the latest
few. `ml_validator.load_artifact` reads them: plain arrays in one form; nothing there names code.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import BinaryIO, Final

from chain import codec
from chain.blocks import BLOCK_SIZE_MAX
from chain.errors import DecodeError
from chain.payloads import (
    CATEGORY_SIZE_MAX,
    FLOW_CATEGORIES_MAX,
    FLOW_INTEGERS_MAX,
    Flow,
)
from chain.schema import Blob, Integer, ListOf, Record, Text
from chain.types import DIGEST_SIZE, Digest
from ml_validator.bundled import bundled_model
from ml_validator.detector import INTEGER_SIZE, Detector, PackedFlow, pack_flow
from ml_validator.errors import (
    MalformedArtifact,
    MisregisteredModel,
    MissingModel,
    ModelError,
    RefusedModel,
    UnknownSchema,
)
from ml_validator.registration import Registration

LENGTH_SIZE: Final = 4
SCORE_SIZE: Final = 3
REASON_LENGTH_MAX: Final = 300
UNREADABLE: Final = b"\xff\xff\xff"
"""Stands where the model cannot read a flow; no score is that high."""
NICENESS: Final = 5
"""Votes and requests go before verdicts where there are few cores."""

MODELS_KEPT_MAX: Final = 4
"""Models beside that of the package; beyond it the one loaded first is dropped, and sent again when
it is asked for."""

FLOWS_PER_REQUEST: Final = 250
"""More would take the canonical decoder ten times as long: it follows the shape of what may grow
large in memory before it allocates anything."""

_FLOWS: Final = ListOf(
    Record(
        PackedFlow,
        integers=Blob(0, INTEGER_SIZE * FLOW_INTEGERS_MAX),
        categories=ListOf(Text(CATEGORY_SIZE_MAX), FLOW_CATEGORIES_MAX),
    ),
    FLOWS_PER_REQUEST,
)
_MODEL: Final = Record(
    Registration,
    model=Blob(DIGEST_SIZE),
    schema=Blob(DIGEST_SIZE),
    threshold_ppm=Integer(),
    size_bytes=Integer(),
)


def encode_request(model: Registration, flows: Sequence[Flow]) -> bytes:
    """Return the bytes of a request, its length included."""
    packed = [pack_flow(flow, model.schema) for flow in flows]
    return _framed(codec.encode(("judge", _MODEL.write(model), _FLOWS.write(packed))))


def encode_load(artifact: bytes) -> bytes:
    """Return the bytes of a request to load a model, its length included."""
    return _framed(codec.encode(("load", artifact)))


def decode_request(data: bytes) -> bytes | tuple[Registration, tuple[PackedFlow, ...]]:
    """Read a request: an artefact to load, or a model and flows; raises `DecodeError`."""
    items = codec.decode(data, what="request", size_max=BLOCK_SIZE_MAX, items_max=FLOWS_PER_REQUEST)
    match items:
        case ["load", bytes(artifact)]:
            return artifact
        case ["judge", model, flows]:
            return _MODEL.read(model, "model"), _FLOWS.read(flows, "flows")
    raise DecodeError("request", "neither an artefact nor a model with flows")


def encode_answer(scores: Sequence[int | None]) -> bytes:
    """Return the bytes of an answer, its length included; None is unreadable."""
    packed = [UNREADABLE if s is None else s.to_bytes(SCORE_SIZE, "big") for s in scores]
    return _framed(codec.encode(("scores", b"".join(packed))))


def encode_failure(reason: str) -> bytes:
    """Return the bytes that say that it did not work, their length included."""
    return _framed(codec.encode(("failure", _shortened(reason))))


def encode_refusal(reason: str) -> bytes:
    """Return the bytes that say that this model may not judge, their length included."""
    return _framed(codec.encode(("refused", _shortened(reason))))


def encode_missing(model: Digest) -> bytes:
    """Return the bytes that say that a model is not loaded, their length included."""
    return _framed(codec.encode(("missing", model)))


def decode_answer(data: bytes) -> list[int | None]:
    """Return the scores of an answer, None where the model cannot read a flow.

    There are none where a model was loaded.

    Raises
    ------
    MissingModel
        It has to be loaded first.
    RefusedModel
        It must not judge, however often it is asked.
    ModelError
        The worker could not judge, or load.
    DecodeError
        This is no answer.
    """
    match codec.decode(data, what="answer", size_max=BLOCK_SIZE_MAX):
        case ["scores", bytes(scores)] if len(scores) % SCORE_SIZE == 0:
            items = [scores[i : i + SCORE_SIZE] for i in range(0, len(scores), SCORE_SIZE)]
            return [None if s == UNREADABLE else int.from_bytes(s, "big") for s in items]
        case ["failure", bytes(reason)]:
            raise ModelError(reason.decode(errors="replace"))
        case ["refused", bytes(reason)]:
            raise RefusedModel(reason.decode(errors="replace"))
        case ["missing", bytes(model)]:
            raise MissingModel(Digest(model))
    raise DecodeError("answer", "neither scores nor a failure")


class Worker:
    """Answers requests.

    Parameters
    ----------
    kept : sequence of Detector
        Those that are never dropped.
    """

    def __init__(self, *kept: Detector) -> None:
        self._kept = {detector.model: detector for detector in kept}
        self._loaded: dict[Digest, Detector] = {}

    def answer(self, data: bytes) -> bytes:
        """Answer one request."""
        try:
            request = decode_request(data)
            if isinstance(request, bytes):
                self._load(request)
                return encode_answer([])
            model, flows = request
            detector = self._kept.get(model.model) or self._loaded.get(model.model)
            if detector is None:
                return encode_missing(model.model)
            model.check(detector.artifact)
            return encode_answer(detector.judge_packed(flows))
        except (MalformedArtifact, UnknownSchema, MisregisteredModel) as error:
            return encode_refusal(str(error))
        except (DecodeError, ModelError) as error:
            return encode_failure(str(error))

    def _load(self, artifact: bytes) -> None:
        detector = Detector.from_bytes(artifact)
        self._loaded[detector.model] = detector
        while len(self._loaded) > MODELS_KEPT_MAX:
            del self._loaded[next(iter(self._loaded))]


def serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer requests until there are no more."""
    artifact, _ = bundled_model()
    worker = Worker(Detector(artifact))
    while len(length := source.read(LENGTH_SIZE)) == LENGTH_SIZE:
        size = int.from_bytes(length, "big")
        data = source.read(size)
        if len(data) < size:
            return
        sink.write(worker.answer(data))
        sink.flush()


def _shortened(reason: str) -> bytes:
    return reason[:REASON_LENGTH_MAX].encode()


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(LENGTH_SIZE, "big") + data


if __name__ == "__main__":
    # An interrupt at a terminal reaches the node too, which ends this process by closing the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A node that was killed reads no answer; there is nobody to complain to.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.nice(NICENESS)
    serve(sys.stdin.buffer, sys.stdout.buffer)
