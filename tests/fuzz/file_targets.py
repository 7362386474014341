"""Files that people and operators give, and models."""

import json
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np

from chain.blocks import receipt_leaves, render_header
from chain.certificate import CERTIFICATE
from chain.errors import DecodeError, UntrustedHeader
from chain.merkle import inclusion_proof
from chain.miners import MINERS
from chain.payloads import FLOW, READING
from chain.types import Digest
from cli import proofs
from cli.client import _object
from cli.errors import CliError, Unreachable
from cli.readings import parse_flow_file, parse_readings
from cli.testnet.network import NETWORK_FILE, load_network
from ml_validator.artifact import Artifact, load_artifact
from ml_validator.bundled import BUNDLED_NAME, bundled_model
from ml_validator.detector import Detector
from ml_validator.errors import ModelError
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.forest import LEAF
from ml_validator.linear import Linear
from ml_validator.manifest import load_manifest
from ml_validator.nsl_kdd import read_attack_types, read_records, to_row
from ml_validator.registration import Registration
from ml_validator.synthetic import NORMAL_PROFILES, generate
from ml_validator.verdicts import TREE_VOTES
from node import verdict_worker
from node.config import NodeConfig, load_config, render_config
from node.errors import ConfigError, KeyFileError
from node.home import load_genesis
from node.keys import ScryptCost, copy_key, create_key, load_key
from tests.builders import Chain
from tests.fuzz.chain_targets import genesis_documents
from tests.fuzz.target import Target, file_target, pure
from tests.simulation.random_source import SeededRandom
from tests.unit.ml_validator.helpers import make_forest

_HEAD: Final = verdict_worker.LENGTH_SIZE
PASSPHRASE: Final = "correct horse"


def targets() -> Iterator[Target]:
    """Yield all of them."""
    yield file_target("config.toml", "bytes", _configs, load_config, ConfigError)
    yield file_target("genesis.json", "json", genesis_documents, load_genesis, ConfigError)
    yield file_target(
        "key file", "json", _key_files, lambda path: load_key(path, PASSPHRASE), KeyFileError
    )
    yield file_target("flow file", "json", _flows, parse_flow_file, CliError, ModelError)
    yield file_target("flow row", "bytes", _rows, parse_flow_file, CliError, ModelError)
    yield file_target("data set", "bytes", _rows, lambda path: list(read_records(path)), ModelError)
    yield file_target(
        "attack types", "bytes", lambda: [b"neptune,dos\nnormal,normal\r\n"], read_attack_types,
        ModelError,
    )  # fmt: skip
    yield file_target(
        NETWORK_FILE, "json", _networks, lambda path: load_network(path.parent), CliError
    )
    yield pure("readings", "bytes", lambda: [b"temperature=21.5C", b"x=-1e3"], _check_reading)
    yield pure("proof document", "json", _proofs, _check_proof)
    yield pure("model", "bytes", _models, _check_model)
    yield pure("question to the judge", "msgpack", _questions, _check_question)
    yield pure("answer of the judge", "msgpack", _answers, _check_answer)
    yield pure("manifest", "json", _manifests, _check_manifest)


def _configs() -> list[bytes]:
    peers = [{"node_key": "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"}]
    full = NodeConfig.model_validate(
        {"role": "observer", "p2p": {"peers": peers}, "log": {"file": "x.log"}}
    )
    return [render_config(config).encode() for config in (NodeConfig(), full)]


def _key_files() -> list[bytes]:
    with tempfile.TemporaryDirectory() as directory:
        plain, sealed = Path(directory) / "plain", Path(directory) / "sealed"
        random = SeededRandom(1)
        create_key(plain, "p256", random)
        copy_key(plain, sealed, random, new_passphrase=PASSPHRASE, cost=ScryptCost(n=2, r=1, p=1))
        return [plain.read_bytes(), sealed.read_bytes()]


def _records() -> list[Any]:
    return [record for profile in NORMAL_PROFILES[:2] for record in generate(profile, 2, seed=0)]


_FLOW: Final = _records()[0].flow


def _flows() -> list[bytes]:
    return [json.dumps(FLOW.render(record.flow)).encode() for record in _records()]


def _rows() -> list[bytes]:
    return ["".join(to_row(record) + "\n" for record in _records()).encode()]


def _networks() -> list[bytes]:
    node = {"name": "node0", "role": "miner", "p2p_port": 26756, "rpc_port": 26757}
    return [json.dumps({"format": 1, "nodes": [node]}).encode()]


def _check_reading(data: bytes) -> bool:
    try:
        reading = parse_readings([data.decode("utf-8", "surrogateescape")])
    except CliError:
        return False
    READING.encode(reading)
    return True


def _proofs() -> list[bytes]:
    chain = Chain()
    miners = chain.miners
    execution = chain.commit(chain.registration("device")[1])
    header = chain.tip.header
    leaves = receipt_leaves(execution.receipts, execution.block_receipt)
    document = {
        "header": render_header(header),
        "certificate": CERTIFICATE.render(chain.certificate(header, miners)),
        "miners": MINERS.render(miners.members),
        "index": 0,
        "leaf_count": 1,
        "transaction_path": [],
        "receipt_leaf_count": len(leaves),
        "receipt_path": [digest.hex() for digest in inclusion_proof(leaves, 0)],
    }
    return [json.dumps(document).encode()]


def _check_proof(data: bytes) -> bool:
    """What a node answers to ``light verify`` ends in a proof or in one of the errors it names."""
    try:
        document = _object("http://node", data, "no JSON")
        proofs._decided(document)
        proofs._inclusion(document, "leaf_count", "transaction_path")
        proofs._inclusion(document, "receipt_leaf_count", "receipt_path")
    except (Unreachable, DecodeError, UntrustedHeader, KeyError):
        return False
    return True


def _questions() -> list[bytes]:
    flows = [record.flow for record in _records()]
    model = Registration.of(bundled_model()[0])
    loading = verdict_worker.encode_load(bundled_model()[0].data)[_HEAD:]
    return [
        loading,
        *(verdict_worker.encode_request(model, part)[_HEAD:] for part in (flows, flows[:1], [])),
    ]


def _check_question(data: bytes) -> bool:
    """A miner's process that judges answers everything, and one score for each flow."""
    worker = verdict_worker.Worker(*_detectors().values())
    answer = worker.answer(data)[_HEAD:]
    try:
        scores = verdict_worker.decode_answer(answer)
    except ModelError:
        return False
    request = verdict_worker.decode_request(data)
    flows = () if isinstance(request, bytes) else request[1]
    assert len(scores) == len(flows), "a flow without a score"
    return True


@cache
def _detectors() -> dict[Digest, Detector]:
    artifact = load_artifact(_models()[0])
    return {artifact.digest: Detector(artifact)}


def _answers() -> list[bytes]:
    encoded = [
        verdict_worker.encode_answer([0, None, 1_000_000]),
        verdict_worker.encode_failure("x"),
    ]
    return [answer[_HEAD:] for answer in encoded]


def _check_answer(data: bytes) -> bool:
    try:
        scores = verdict_worker.decode_answer(data)
    except (DecodeError, ModelError):
        return False
    assert verdict_worker.encode_answer(scores)[_HEAD:] == data, "it is encoded differently"
    return True


def _models() -> list[bytes]:
    column_count = NSL_KDD_SCHEMA.column_count
    trees = [[(0, 5), (LEAF, TREE_VOTES), (LEAF, 0)], [(LEAF, 100)]]
    forest = make_forest(*trees, column_count=column_count)
    linear = Linear(
        weight=np.full(column_count, 2**40, np.int64),
        cap=np.full(column_count, 500, np.int32),
        bias=np.array([-(2**45)], np.int64),
        column_count=column_count,
    )
    own = FeatureSchema(
        name="own",
        integers=NSL_KDD_SCHEMA.integers[:2],
        categories=NSL_KDD_SCHEMA.categories[:1],
    )
    small = make_forest([(LEAF, 100)], column_count=own.column_count)
    return [
        Artifact(model=model, schema=schema, threshold_ppm=30_000).data
        for model, schema in ((forest, NSL_KDD_SCHEMA), (linear, NSL_KDD_SCHEMA), (small, own))
    ]


def _check_model(data: bytes) -> bool:
    try:
        artifact = load_artifact(data)
    except ModelError:
        return False
    assert artifact.data == data, "it is encoded differently"
    detector = Detector(artifact)
    if artifact.schema.fits(_FLOW):
        (score_ppm,) = detector.judge([_FLOW])
        assert 0 <= score_ppm <= 1_000_000, "no score"
    return True


def _manifests() -> list[bytes]:
    return [(files("ml_validator") / "models" / f"{BUNDLED_NAME}.json").read_bytes()]


def _check_manifest(data: bytes) -> bool:
    try:
        manifest = load_manifest(data)
    except ModelError:
        return False
    assert load_manifest(manifest.to_json().encode()) == manifest, "it is written differently"
    return True
