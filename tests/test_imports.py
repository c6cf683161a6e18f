"""Serving stays light: what it imports, and what it must not."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module", ["serving.app", "serving.cli", "serving.analyzer", "serving.score.run", "training.cli"]
)
def test_serving_loads_no_torch_transformers_or_datasets(module: str) -> None:
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'transformers', 'datasets', 'onnx', 'pandas', 'pyarrow', 'ray'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
