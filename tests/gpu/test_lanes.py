"""What two lanes are for: pinned inputs, copies beside computing, waiting for one's own work only, graphs."""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import numpy as np

from edge_inspector.runners.cuda import BEGUN, COMPUTED, COPIED_IN, DONE
from edge_inspector.runners.tensorrt import TensorRTRunner


class Hold:
    """Keeps a stream from going on until it is opened: the GPU itself waits for a word in pinned memory."""

    def __init__(self, runner: TensorRTRunner, lane: int) -> None:
        device = runner._device
        with device.current():
            self._word = device._pycuda.pagelocked_empty(1, np.uint32)
            self._word[0] = 0
            address, stream = ctypes.c_uint64(self._word.ctypes.data), ctypes.c_void_p(runner._lanes[lane].stream)
            device.driver.call("cuStreamWaitValue32_v2", stream, address, ctypes.c_uint32(1), ctypes.c_uint(0))

    def open(self) -> None:
        """Let it go on."""
        self._word[0] = 1


def test_inputs_are_pinned(runner: TensorRTRunner) -> None:
    """The letterbox writes where the GPU reads; ordinary memory, for comparison, is unknown to the driver."""
    flags = ctypes.c_uint()

    def known(array: np.ndarray) -> bool:
        number = runner._device.driver.number(
            "cuMemHostGetFlags", ctypes.byref(flags), ctypes.c_void_p(array.ctypes.data)
        )
        return number == 0

    with runner._device.current():
        assert all(known(view) for view in runner.inputs)
        assert not known(np.zeros(1 << 20, np.uint8))


def test_copies_of_one_lane_run_while_the_other_computes(runner: TensorRTRunner) -> None:
    """By the GPU's own time stamps: lane 1 goes all its way while lane 0 is kept from having computed."""
    holds: list[Hold] = []

    def compute_and_stay() -> None:
        runner._compute(0)
        holds.append(Hold(runner, 0))

    with runner._device.current():
        runner._lanes[0].drop_graph()
        runner._lanes[0].start(compute_and_stay)
        runner._lanes[0].marks[COPIED_IN].synchronize()
    runner._flying[0] = True
    runner.submit(1)
    runner.collect(1)
    holds[0].open()
    runner.collect(0)
    assert runner.elapsed_ms((0, COPIED_IN), (1, BEGUN)) > 0  # lane 0 had begun to compute
    assert runner.elapsed_ms((1, DONE), (0, COMPUTED)) > 0  # and had not ended when lane 1 was through
    order = [runner.elapsed_ms((1, BEGUN), (1, mark)) for mark in (COPIED_IN, COMPUTED, DONE)]
    assert order == sorted(order)


def test_collect_waits_for_its_own_lane_only(runner: TensorRTRunner) -> None:
    """While lane 1 cannot go on, lane 0 is submitted and collected again and again."""
    hold = Hold(runner, 1)
    runner.submit(1)
    for _ in range(5):
        runner.submit(0)
        runner.collect(0)
    with runner._device.current():
        assert not runner._lanes[1].idle
    hold.open()
    runner.collect(1)


def test_close_does_not_wait_for_a_gpu_that_hangs(plan: Path, target: str) -> None:
    """Its memory stays until the process ends, and so does who waits for it."""
    runner = TensorRTRunner(plan, "detect", target)
    hold = Hold(runner, 0)
    runner.submit(0)
    waiting = threading.Thread(target=runner.collect, args=(0,))
    waiting.start()
    runner.close()
    assert waiting.is_alive()
    hold.open()
    waiting.join()


def test_every_lane_launches_a_graph(runner: TensorRTRunner) -> None:
    """And the graph computes what lies in the input at that time, not when it was made."""
    assert runner.graphs == [True, True]
    rows = []
    for shade in (0, 255):
        runner.inputs[0][:] = shade
        runner.inputs[0][100:300, 100:300] = 255 - shade
        runner.submit(0)
        rows.append(np.array(runner.collect(0)[0]))
    assert not np.array_equal(*rows)
