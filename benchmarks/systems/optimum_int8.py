"""The same graph quantised by optimum-onnx, as its documentation shows for CPUs."""

from importlib.metadata import version
from pathlib import Path

from benchmarks.converted import made_once
from benchmarks.protocol import Given
from benchmarks.systems.onnx_runtime import OnnxRuntime


class OptimumInt8(OnnxRuntime):
    """Dynamic int8, a scale a channel, for the instructions that this CPU has."""

    packages = ("optimum-onnx", "onnxruntime", "transformers")

    def graph(self, given: Given) -> Path:
        """Quantise, once a checkpoint."""
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        def quantise(target: Path) -> None:
            settings = getattr(AutoQuantizationConfig, _instructions())(is_static=False, per_channel=True)
            quantizer = ORTQuantizer.from_pretrained(given.graph.parent, file_name=given.graph.name)
            quantizer.quantize(save_dir=target, quantization_config=settings)

        name = f"optimum-onnx-{version('optimum-onnx')}-{_instructions()}"
        return made_once(given.scratch / name, quantise) / f"{given.graph.stem}_quantized.onnx"


def _instructions() -> str:
    """optimum's name for the best instructions of this CPU."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"
