"""Models in the forms of other worlds: C99 for small devices, ONNX for other runtimes.

Both judge as `ml_validator.detector` does. What goes on a chain comes from the artefact, never from
an export of it. docs/spec/ml.md, section "Exports".
"""

from ml_validator.export.c_source import CSource, to_c
from ml_validator.export.probes import UNREADABLE_PPM, expected_scores, probing_flows

__all__ = ["UNREADABLE_PPM", "CSource", "expected_scores", "probing_flows", "to_c"]
