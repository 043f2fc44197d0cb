"""The values that flow: what is checked once at the border."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from edge_inspector import errors
from edge_inspector.types import Defect, Detections, Frame, Outcome, Reason, Severity, Shot, Verdict


def detections(n: int = 2, **change: Any) -> Detections:
    """Right ones, but for what is changed."""
    right = {"xyxy": np.zeros((n, 4), np.float32), "score": np.ones(n, np.float32), "label": np.zeros(n, np.int16)}
    return Detections(**{**right, **change})


def test_right_detections() -> None:
    """Any number of them, none included."""
    assert [len(detections(n)) for n in (0, 1, 5)] == [0, 1, 5]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"xyxy": np.zeros((2, 5), np.float32)}, r"xyxy: expected float32 \[2, 4\], got float32 \[2, 5\]"),
        ({"xyxy": np.zeros((3, 4), np.float32)}, r"xyxy: expected float32 \[2, 4\], got float32 \[3, 4\]"),
        ({"xyxy": np.zeros((2, 4))}, r"xyxy: expected float32 \[2, 4\], got float64"),
        ({"score": np.ones((2, 1), np.float32)}, r"score: expected float32 \[2\]"),
        ({"score": np.ones(2)}, r"score: expected float32 \[2\], got float64"),
        ({"label": np.zeros(2, np.int64)}, r"label: expected int16 \[2\], got int64"),
        ({"label": np.zeros(1, np.int16)}, r"label: expected int16 \[2\], got int16 \[1\]"),
        ({"xyxy": np.full((2, 4), np.nan, np.float32)}, "not finite"),
        ({"xyxy": np.full((2, 4), np.inf, np.float32)}, "not finite"),
        ({"score": np.array([1, np.nan], np.float32)}, "not finite"),
        ({"score": np.array([1, 1.01], np.float32)}, r"0\.\.1, got 1\.\.1\.01"),
        ({"score": np.array([1, -0.01], np.float32)}, r"0\.\.1, got -0\.01\.\.1"),
    ],
)
def test_wrong_detections(change: dict[str, Any], message: str) -> None:
    """Shape, type and values are checked, and the message holds the expected and the actual one."""
    with pytest.raises(ValueError, match=message):
        detections(**change)


def test_negative_label() -> None:
    """A label is an index, and an index is not negative."""
    with pytest.raises(ValueError, match="label"):
        detections(label=np.array([0, -1], np.int16))


@pytest.mark.parametrize(("outcome", "reason"), list(itertools.product(Outcome, Reason)))
def test_reason_fits_the_outcome(outcome: Outcome, reason: Reason) -> None:
    """`ok` is a pass, `defect` a reject, everything else a fault: no other pair can be made."""
    expected = {Reason.OK: Outcome.PASS, Reason.DEFECT: Outcome.REJECT}.get(reason, Outcome.FAULT)
    if outcome is expected:
        assert Verdict(outcome, reason).outcome is outcome
    else:
        with pytest.raises(ValueError, match=f"reason {reason.value} belongs to outcome {expected.value}"):
            Verdict(outcome, reason)


@pytest.mark.parametrize("reason", [Reason.OK, Reason.DEFECT])
def test_fault_is_no_pass(reason: Reason) -> None:
    """A fault cannot be given a reason of a judged part."""
    with pytest.raises(ValueError, match="not fault"):
        Verdict.fault(reason)


def test_fault_claims_nothing() -> None:
    """A part that was not judged has no grade and no defects."""
    assert Verdict.fault(Reason.TIMEOUT) == Verdict(Outcome.FAULT, Reason.TIMEOUT, (), (), 0, None)


def test_outcome_has_no_default() -> None:
    """Nobody gets a verdict by forgetting to say which."""
    with pytest.raises(TypeError):
        Verdict()  # type: ignore[call-arg]


def test_values_are_frozen() -> None:
    """A verdict that was given cannot be changed into another."""
    for value, name in (
        (Verdict.fault(Reason.TIMEOUT), "outcome"),
        (Defect("short", 1.0, (0, 0, 1, 1), Severity.MINOR), "severity"),
        (Shot(1), "t_grab_ns"),
        (detections(), "score"),
    ):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_order_of_badness() -> None:
    """Severity's members stand from the mildest to the worst; recipes and grades count on it."""
    assert list(Severity) == [Severity.MINOR, Severity.MAJOR, Severity.CRITICAL]


def test_frame_is_given_back_once() -> None:
    """However often it is released, also from within its own `with`."""
    back: list[object] = []
    frame = Frame(np.zeros((2, 2, 3), np.uint8), Shot(1), back.append)
    with frame:
        frame.release()
    frame.release()
    assert len(back) == 1
    assert back[0] is frame.pixels


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, 78),
        (errors.CameraMissing, 3),
        (errors.EngineMissing, 3),
        (errors.CameraFault, 1),
        (errors.EngineFault, 1),
        (errors.EngineLost, 1),
        (errors.OutboxFull, 1),
    ],
)
def test_exit_codes(error: type[errors.InspectorError], code: int) -> None:
    """What the process ends with is part of the contract with systemd."""
    assert error.exit_code == code
    assert issubclass(error, errors.InspectorError)


def test_bad_frame_is_a_camera_fault_that_names_its_part() -> None:
    """Whoever handles camera faults handles bad frames, and knows which part it was."""
    error = errors.FrameFault("torn", Shot(5, "a.png"))
    assert isinstance(error, errors.CameraFault)
    assert (str(error), error.shot.part_id) == ("torn", "a.png")
    assert not issubclass(errors.EngineLost, errors.EngineFault)
