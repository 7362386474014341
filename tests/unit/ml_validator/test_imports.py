import subprocess
import sys

import pytest

HEAVY = ("sklearn", "scipy", "joblib", "pandas", "safetensors")


@pytest.mark.parametrize(
    "module", ["ml_validator", "ml_validator.detector", "ml_validator.federated"]
)
def test_judging_imports_no_training_library(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
