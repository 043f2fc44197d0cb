"""The doctor's look at accelerators and cameras: what answers on this machine."""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from .finding import Finding, State, pip, probe, version_of

DRIVER, JETSON = Path("/proc/driver/nvidia"), Path("/etc/nv_tegra_release")
OPENVINO = """
import sys
sys.modules["openvino_telemetry"] = None  # the import would report itself to the maker
import openvino
core = openvino.Core()
print(", ".join(f"{name} ({core.get_property(name, 'FULL_DEVICE_NAME').strip()})" for name in core.available_devices))
"""
VIDIOC_QUERYCAP, V4L2_CAPABILITY, V4L2_CAP_VIDEO_CAPTURE = 0x80685600, "16s32s32sIII12x", 1  # linux/videodev2.h


def accelerators() -> Iterator[Finding]:
    """What could compute an engine here."""
    if version_of("openvino"):
        answered, said = probe(OPENVINO)
        mend = "" if answered else f"{pip()} install --force-reinstall openvino"
        yield Finding("ok" if answered else "missing", "openvino devices", said, mend)
    if (DRIVER / "version").is_file():
        version = re.search(r"\s(\d+\.\d+[.\d]*)\s", (DRIVER / "version").read_text())
        cards = [re.search(r"Model:\s*(.*)", path.read_text()) for path in DRIVER.glob("gpus/*/information")]
        names = ", ".join(card[1].strip() for card in cards if card) or "no GPU"
        yield Finding("ok", "nvidia driver", f"{version[1] if version else 'of unknown version'}: {names}")
    elif JETSON.is_file():
        yield Finding("ok", "nvidia driver", f"Jetson: {JETSON.read_text().splitlines()[0]}")
    else:
        yield Finding("optional", "nvidia driver", "none loaded: engines run on the CPU")
    for flavour in ("tensorrt", "tensorrt_rtx"):
        if importlib.util.find_spec(flavour) is None:
            yield Finding("optional", flavour, "not installed; only for engines on an NVIDIA GPU")
            continue
        answered, said = probe(f"import {flavour}; print({flavour}.__version__)")
        yield Finding("ok" if answered else "optional", flavour, said)


def cameras() -> Iterator[Finding]:
    """What OpenCV was built with, and the cameras with a device here."""
    if any(version_of(name) for name in ("opencv-python-headless", "opencv-python", "opencv-contrib-python")):
        yield _opencv()
    paths = sorted(Path("/dev").glob("video*"))
    if not paths:
        yield Finding("optional", "/dev/video*", "no camera with a device of its own")
    for path in paths:
        yield device(path, otherwise="optional")


def _opencv() -> Finding:
    answered, said = probe("import cv2; print(cv2.getBuildInformation())")
    if not answered:
        return Finding("missing", "opencv", said, f"{pip()} install --force-reinstall opencv-python-headless")
    can = [name for name in ("FFMPEG", "GStreamer", "v4l/v4l2") if re.search(rf"{name}:\s+YES", said)]
    lacks = "" if "GStreamer" in can else "; without GStreamer: no pipelines"
    return Finding("ok", "opencv", f"built with {', '.join(can) or 'nothing that opens a camera'}{lacks}")


def device(path: Path, *, otherwise: State) -> Finding:
    """Whether a V4L2 device can be opened, and what it calls itself; where it cannot, the state is `otherwise`."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        mend = {
            errno.EACCES: f"sudo usermod -aG {_group(path)} $USER, then log in again",
            errno.ENOENT: "plug it in; v4l2-ctl --list-devices shows what is there",
        }
        return Finding(otherwise, str(path), error.strerror or str(error), mend.get(error.errno or 0, ""))
    try:
        raw = fcntl.ioctl(handle, VIDIOC_QUERYCAP, bytes(struct.calcsize(V4L2_CAPABILITY)))
    except OSError as error:
        return Finding(otherwise, str(path), f"is no video device: {error.strerror}")
    finally:
        os.close(handle)
    _, card, _, _, _, can = struct.unpack(V4L2_CAPABILITY, raw)
    name = card.rstrip(b"\0").decode(errors="replace")
    if not can & V4L2_CAP_VIDEO_CAPTURE:
        return Finding(otherwise, str(path), f"{name}: gives no pictures; a camera often has another device that does")
    return Finding("ok", str(path), name)


def _group(path: Path) -> str:
    try:
        return path.group()
    except (OSError, KeyError):
        return "video"
