"""The camera hangs, is unplugged, comes back, or repeats itself: faults and silence, never a pass on an old picture."""

from __future__ import annotations

import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ..cameras import servers
from .rig import Gateway, must_add_up, running, step

OPENCV = 'kind = "opencv"\nsource = "{url}"\nopen_timeout_ms = 2000\nread_timeout_ms = 700'


def server(kind: str) -> AbstractContextManager[servers.Server]:
    """A network camera; skips where it cannot run here."""
    if kind == "mjpeg":
        return servers.mjpeg()
    if (lacks := servers.rtsp_lacks()) is not None:
        pytest.skip(lacks)
    return servers.rtsp()


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_camera_that_hangs_and_wakes(tmp_path: Path, kind: str) -> None:
    """SIGSTOP on the server: not ready, no verdicts from old pictures; SIGCONT: ready again by itself."""
    with server(kind) as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, script=[step()], deadline_ms=500) as daemon:
            daemon.wait_for_verdicts(30)
            camera.freeze()
            daemon.wait_for(lambda: daemon.ears.state == "fault")
            assert "camera" in daemon.ears.beats[-1]["reason"]
            heard = len(daemon.ears.verdicts)
            camera.wake()
            daemon.wait_for_verdicts(heard + 30)
            daemon.wait_until_ready()
            assert daemon.stop() == 0
            must_add_up(daemon)
            assert daemon.ears.beats[-1]["counters"]["reconnects"] >= 1


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp"])
def test_a_camera_that_is_unplugged(tmp_path: Path, kind: str) -> None:
    """The server is killed: not ready, and the daemon lives on, trying; SIGTERM still ends it in time."""
    with server(kind) as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, script=[step()], deadline_ms=500) as daemon:
            daemon.wait_for_verdicts(20)
            camera.kill()
            daemon.wait_for(lambda: daemon.ears.state == "fault")
            assert daemon.stop() == 0
            must_add_up(daemon)


def test_a_camera_that_is_unplugged_and_brought_back(tmp_path: Path) -> None:
    """Another server at the same address, as after a power cut: ready again by itself, and parts are judged."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, script=[step()], deadline_ms=500) as daemon:
            daemon.wait_for_verdicts(20)
            camera.kill()
            daemon.wait_for(lambda: daemon.ears.state == "fault")
            heard = len(daemon.ears.verdicts)
            with servers.mjpeg(port=int(camera.url.split(":")[2].split("/")[0])):
                daemon.wait_for_verdicts(heard + 30)
                daemon.wait_until_ready()
                assert daemon.stop() == 0
            must_add_up(daemon)
            assert daemon.ears.verdicts[-1]["outcome"] == "pass"


def test_what_a_camera_queued_while_the_daemon_stood_still_is_dropped(tmp_path: Path) -> None:
    """SIGSTOP for three seconds: the ninety frames that wait in the network are old, however fresh they arrive."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, script=[step()], deadline_ms=500) as daemon:
            daemon.wait_for_verdicts(30)
            daemon.freeze()
            time.sleep(3.0)
            heard = len(daemon.ears.verdicts)
            continued_us = time.time_ns() // 1000
            daemon.send(signal.SIGCONT)
            daemon.wait_for_verdicts(heard + 40)
            assert daemon.stop() == 0
            must_add_up(daemon, in_time=False)
            assert daemon.ears.beats[-1]["counters"]["reconnects"] == 1
            passed = [v["t_grab_us"] for v in daemon.ears.verdicts if v["outcome"] == "pass"]
            assert sum(0 <= t_us - continued_us < 1_000_000 for t_us in passed) <= 35  # what 30 a second can be


def test_triggers_while_the_camera_is_away(tmp_path: Path) -> None:
    """A gateway's part whose frame never comes is a fault by its deadline, with the camera named as the reason."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, trigger="gateway", script=[step()], deadline_ms=300) as daemon:
            daemon.wait_until_ready()
            with Gateway(tmp_path) as gateway:
                gateway.trigger(1)
                assert gateway.expect("verdict")["outcome"] == "pass"
                camera.freeze()
                daemon.wait_for(lambda: daemon.ears.state == "fault")
                for number in range(2, 6):
                    gateway.trigger(number, part_id=f"A-{number}")
                daemon.wait_for_verdicts(5)
            assert daemon.stop() == 0
            must_add_up(daemon)
            assert daemon.ears.reasons == {"ok": 1, "camera_fault": 4}
            assert [verdict["part_id"] for verdict in daemon.ears.verdicts[1:]] == ["A-2", "A-3", "A-4", "A-5"]
            assert all(verdict["t_grab_us"] is None for verdict in daemon.ears.verdicts[1:])


def test_the_first_frame_after_the_trigger_is_the_parts(tmp_path: Path) -> None:
    """Each part's picture was taken after its trigger, and no picture is used for two parts."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, trigger="gateway", script=[step()], deadline_ms=500) as daemon:
            daemon.wait_until_ready()
            with Gateway(tmp_path) as gateway:
                for number in range(1, 21):
                    gateway.trigger(number)
                    while gateway.expect("verdict")["trigger_id"] != number:
                        pass
            assert daemon.stop() == 0
            must_add_up(daemon)
            verdicts = daemon.ears.verdicts
            assert all(verdict["t_grab_us"] >= verdict["t_trigger_us"] for verdict in verdicts if verdict["t_grab_us"])
            assert len({verdict["t_grab_us"] for verdict in verdicts}) == 20


def test_a_camera_that_repeats_one_frame(tmp_path: Path) -> None:
    """From the second identical picture on, no part passes; the station says that its camera is frozen."""
    with servers.mjpeg(query="still=40") as camera:
        table = OPENCV.format(url=camera.url)
        with running(tmp_path, camera=table, script=[step()], deadline_ms=500) as daemon:
            daemon.wait_for(lambda: daemon.ears.reasons["frozen_frame"] > 20)
            daemon.wait_for(lambda: daemon.ears.state == "fault")
            assert "identical" in daemon.ears.beats[-1]["reason"]
            assert daemon.stop() == 0
            must_add_up(daemon)
            outcomes = [verdict["outcome"] for verdict in daemon.ears.verdicts]
            frozen = outcomes.index("fault")
            assert set(outcomes[frozen:]) == {"fault"}


def test_free_run_skips_and_counts(tmp_path: Path) -> None:
    """Watching: the newest frame wins, skipped ones are counted and are no parts."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        script = [step(delay_ms=100)]
        with running(tmp_path, camera=table, trigger="free-run", script=script, deadline_ms=1000) as daemon:
            daemon.wait_for_verdicts(20)
            assert daemon.stop() == 0
            must_add_up(daemon)
            assert daemon.ears.reasons["ok"] >= 19
            assert daemon.ears.beats[-1]["counters"]["skipped"] >= 20


def test_a_stale_frame_is_a_fault(tmp_path: Path) -> None:
    """A frame that has waited for longer than max_age_ms is not judged."""
    with servers.mjpeg() as camera:
        table = OPENCV.format(url=camera.url)
        script = [step(delay_ms=60)]
        with running(tmp_path, camera=table, script=script, deadline_ms=1000, station="max_age_ms = 50") as daemon:
            daemon.wait_for(lambda: daemon.ears.reasons["stale_frame"] >= 3)
            assert daemon.stop() == 0
            must_add_up(daemon)


def test_a_camera_that_is_not_there_ends_the_start(tmp_path: Path) -> None:
    """Exit code 3, and a message that names the address."""
    address = f"http://{servers.closed_port()}/cam"
    with running(tmp_path, camera=OPENCV.format(url=address), script=[step()]) as daemon:
        assert daemon.process.wait(30) == 3
        assert address in daemon.log.read_text()
