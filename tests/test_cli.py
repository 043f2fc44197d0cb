"""What the command line says where something that it needs is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_inspector.cli import main


def test_a_library_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 3, with the command that installs it, and no traceback."""
    monkeypatch.setitem(sys.modules, "onnx", None)
    command = ["build", "boards", "--target", "tensorrt-rtx", "--sm", "89", "--precision", "fp16"]
    pytest.importorskip("tensorrt_rtx")
    assert main([*command, "--engines", str(tmp_path)]) == 3
    assert "onnx is not installed; run: pip install 'edge-inspector[models]'" in capsys.readouterr().err
