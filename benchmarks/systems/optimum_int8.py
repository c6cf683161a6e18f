"""The same graph quantised by optimum-onnx, as its documentation shows for CPUs."""

from pathlib import Path

from benchmarks.protocol import Given
from benchmarks.systems.onnx_runtime import OnnxRuntime


class OptimumInt8(OnnxRuntime):
    """Dynamic int8, a scale a channel, for the instructions that this CPU has."""

    packages = ("optimum-onnx", "onnxruntime", "transformers")

    def graph(self, given: Given) -> Path:
        """Quantise, once a checkpoint."""
        from optimum.onnxruntime import ORTQuantizer
        from optimum.onnxruntime.configuration import AutoQuantizationConfig

        folder = given.scratch / f"optimum-{_instructions()}"
        made = folder / f"{given.graph.stem}_quantized.onnx"
        if not made.is_file():
            settings = getattr(AutoQuantizationConfig, _instructions())(is_static=False, per_channel=True)
            quantizer = ORTQuantizer.from_pretrained(given.graph.parent, file_name=given.graph.name)
            quantizer.quantize(save_dir=folder, quantization_config=settings)
        return made


def _instructions() -> str:
    """optimum's name for the best instructions of this CPU."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    return "avx512_vnni" if "avx512_vnni" in flags else "avx2"
