"""How suspicious a flow looks, and how the models that say so are made.

Judging is integers in numpy: `Detector`. Training is `ml_validator.training`, which is not imported
here, because it needs scikit-learn and a node must not.
"""

from ml_validator.artifact import Artifact, load_artifact, model_digest
from ml_validator.bundled import bundled_model
from ml_validator.detector import Detector
from ml_validator.errors import (
    AlteredDataset,
    InvalidDataset,
    InvalidFlow,
    MalformedArtifact,
    MalformedManifest,
    MissingDataset,
    ModelError,
    UnknownSchema,
    UntrainableData,
)
from ml_validator.features import NSL_KDD_SCHEMA, FeatureSchema
from ml_validator.manifest import Manifest, load_manifest
from ml_validator.verdicts import is_anomalous

__all__ = [
    "NSL_KDD_SCHEMA",
    "AlteredDataset",
    "Artifact",
    "Detector",
    "FeatureSchema",
    "InvalidDataset",
    "InvalidFlow",
    "MalformedArtifact",
    "MalformedManifest",
    "Manifest",
    "MissingDataset",
    "ModelError",
    "UnknownSchema",
    "UntrainableData",
    "bundled_model",
    "is_anomalous",
    "load_artifact",
    "load_manifest",
    "model_digest",
]
