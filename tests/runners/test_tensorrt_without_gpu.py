"""Up to the driver everything runs on a machine without a GPU, and fails with the step that mends it."""

from __future__ import annotations

import ctypes
import importlib.util
import re
from pathlib import Path

import pytest

from edge_inspector import runners
from edge_inspector.errors import EngineFault, EngineLost, EngineMissing
from edge_inspector.models import manifest
from edge_inspector.models.folder import find
from edge_inspector.models.trt import library, listener
from edge_inspector.runners import libcuda, tensorrt

HEADERS = [Path("/usr/local/cuda/include/cuda.h"), Path("/usr/include/cuda.h")]


def _has_driver() -> bool:
    try:
        ctypes.CDLL(libcuda.NAME)
    except OSError:
        return False
    return True


no_driver = pytest.mark.skipif(_has_driver(), reason="this machine has an NVIDIA driver")
rtx = pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in ("tensorrt_rtx", "tensorrt_rtx_bindings")),
    reason="TensorRT-RTX is not installed",
)


@pytest.mark.skipif(importlib.util.find_spec("tensorrt") is not None, reason="TensorRT is installed")
def test_without_tensorrt() -> None:
    """A Jetson has it from its own packages, so that is what is said."""
    with pytest.raises(EngineMissing, match=r"No module named 'tensorrt'.*python3-libnvinfer.*--system-site-packages"):
        runners.machine("tensorrt")


@rtx
@no_driver
def test_without_a_driver() -> None:
    """Told apart from a missing GPU and a missing pycuda, with the way back to the CPU."""
    with pytest.raises(EngineMissing, match=r"no NVIDIA driver on this machine: libcuda\.so\.1.*--target openvino"):
        runners.machine("tensorrt-rtx")


@rtx
@no_driver
def test_a_line_whose_engine_was_compiled_for_a_gpu(tmp_path: Path) -> None:
    """`run` on a machine without one: EngineMissing, which ends it with 3."""
    folder = tmp_path / "boards"
    build = folder / "builds" / "1"
    build.mkdir(parents=True)
    (folder / "model.toml").write_text('labels = ["short"]\n')
    (folder / "model.onnx").write_bytes(b"graph")
    (build / "model.plan").write_bytes(b"plan")
    made = manifest.Manifest(
        engine="boards", target="tensorrt-rtx", precision="fp32", file="model.plan",
        file_sha256=manifest.sha256(b"plan"), model_sha256=manifest.sha256(b"graph"),
        machine=manifest.Machine("tensorrt-rtx", "1.7"), built="2026-01-01T00:00:00Z", build_s=1.0,
    )  # fmt: skip
    manifest.write(build, made)
    manifest.install(folder, build)
    with pytest.raises(EngineMissing, match="no NVIDIA driver") as missing:
        runners.make(find("boards", tmp_path))
    assert missing.value.exit_code == 3


@rtx
def test_a_plan_that_is_not_there(tmp_path: Path) -> None:
    """With the command that builds it."""
    plan = tmp_path / "engines" / "seals" / "builds" / "1" / "model.plan"
    command = f"edge-inspector build seals --engines {tmp_path / 'engines'} --target tensorrt-rtx"
    with pytest.raises(EngineMissing, match=rf"{re.escape(str(plan))}: No such file.*run: {re.escape(command)}"):
        tensorrt.TensorRTRunner(plan, "detect", "tensorrt-rtx")


@rtx
@pytest.mark.parametrize("content", [b"", b"no plan at all" * 100])
def test_a_file_that_is_no_plan(content: bytes) -> None:
    """TensorRT itself refuses it, and its own reason is passed on."""
    trt, plan = library("tensorrt-rtx"), Path("engines/seals/builds/1/model.plan")
    with pytest.raises(
        EngineMissing, match=r"model\.plan: tensorrt-rtx [\d.]+ refuses it: .*Error Code.*run: edge-ins"
    ):
        tensorrt.deserialise(trt, content, plan, target="tensorrt-rtx", said=listener(trt))


def test_errors_that_a_process_does_not_survive() -> None:
    """A lost context is EngineLost, so that the process restarts; what may pass is this part's fault."""
    for number in (700, 719, 214, 710, 46, 999):
        assert isinstance(libcuda.verdict(RuntimeError("x"), number), EngineLost)
    for number in (0, 1, 2, 600, 701, 901):  # invalid value, out of memory, not ready, out of resources, a capture
        assert isinstance(libcuda.verdict(RuntimeError("x"), number), EngineFault)


def test_the_list_is_that_of_the_vendor() -> None:
    """Every error of which cuda.h says that the process must be relaunched is in it, under its number and name."""
    header = next((path for path in HEADERS if path.is_file()), None)
    if header is None:
        pytest.skip("no CUDA toolkit here")
    listed = re.findall(r"/\*\*((?:(?!\*/).)*)\*/\s*CUDA_ERROR_(\w+)\s*=\s*(\d+)", header.read_text(), re.DOTALL)
    names = {int(number): name for _, name, number in listed}
    final = {
        int(number)
        for text, _, number in listed
        if "terminated and relaunched" in " ".join(text.replace("*", " ").split())
    }
    assert len(final) >= 10
    assert final <= libcuda.LOST.keys()
    assert {number: names[number] for number in libcuda.LOST} == libcuda.LOST
