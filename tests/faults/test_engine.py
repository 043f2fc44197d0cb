"""The engine fails, hangs, is lost, or is asked for more than it can do."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

from .rig import Gateway, boards, must_add_up, running, step


def test_an_engine_that_raises_gives_faults_and_goes_on(tmp_path: Path) -> None:
    """One part in four meets an error: that part is a fault, its neighbours are judged."""
    script = [step(), step(reject=True), step(error="CUDA error 700"), step()]
    with running(tmp_path, camera=boards(50, 200), script=script) as daemon:
        daemon.wait_for_verdicts(200)
        assert daemon.process.wait(20) == 0
        must_add_up(daemon)
        reasons = daemon.ears.reasons
        assert reasons["engine_fault"] in range(48, 52)
        assert reasons["defect"] in range(48, 52)
        assert reasons["ok"] > 90


def test_an_engine_that_always_raises_is_not_ready_and_recovers(tmp_path: Path) -> None:
    """After three faults in a row the station is not ready; with the first good answer it is again."""
    script = [step()] * 6 + [step(error="out of memory")] * 20 + [step()] * 2000
    with running(tmp_path, camera=boards(20), script=script) as daemon:
        daemon.wait_for(lambda: daemon.ears.state == "fault")
        assert not daemon.ears.beats[-1]["ready"]
        assert "engine" in daemon.ears.beats[-1]["reason"]
        daemon.wait_until_ready()
        assert daemon.stop() == 0
        must_add_up(daemon)
        assert daemon.ears.reasons["engine_fault"] == 20


def test_a_failed_engine_recovers_without_parts(tmp_path: Path) -> None:
    """A PLC sends no parts to a line that is not ready: the engine is tried all the same."""
    script = [step()] + [step(error="gone")] * 5 + [step()] * 2000
    with running(tmp_path, camera=boards(0), trigger="gateway", script=script) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            for number in range(1, 5):
                gateway.trigger(number)
                gateway.ack(gateway.expect("verdict"))
            daemon.wait_for(lambda: daemon.ears.state == "fault")
            daemon.wait_until_ready()
            gateway.trigger(5)
            verdict = gateway.expect("verdict")
            gateway.ack(verdict)
            assert (verdict["seq"], verdict["outcome"]) == (5, "pass")
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_an_idle_engine_is_kept_warm(tmp_path: Path) -> None:
    """It infers while nothing comes, counted apart: no part, no verdict, and no step of the script is used up."""
    script = [step(), step(reject=True)] * 50
    with running(tmp_path, camera=boards(50), trigger="gateway", script=script, keep_warm_ms=20) as daemon:
        daemon.wait_until_ready()
        with Gateway(tmp_path) as gateway:
            for number in range(1, 5):
                probes = daemon.ears.beats[-1]["counters"]["probes"]
                daemon.wait_for(lambda probes=probes: daemon.ears.beats[-1]["counters"]["probes"] > probes + 3)
                gateway.trigger(number)
                verdict = gateway.expect("verdict")
                gateway.ack(verdict)
                assert (verdict["seq"], verdict["outcome"]) == (number, ("reject", "pass")[number % 2])
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_an_idle_engine_rests_where_nobody_asks_for_more(tmp_path: Path) -> None:
    """Without keep_warm_ms nothing is inferred but parts."""
    with running(tmp_path, camera=boards(20, 30), script=[step()] * 2) as daemon:
        daemon.wait_for_verdicts(30)
        assert daemon.ears.beats[-1]["counters"]["probes"] == 0


def test_an_engine_that_hangs_ten_deadlines(tmp_path: Path) -> None:
    """While it hangs, every part gets its fault by its deadline; afterwards the line is healthy again."""
    script = [step(delay_ms=1)] * 25 + [step(delay_ms=3000)] + [step(delay_ms=1)] * 5000
    with running(tmp_path, camera=boards(25), script=script, deadline_ms=300) as daemon:
        daemon.wait_for(lambda: daemon.ears.state == "fault")
        daemon.wait_until_ready()
        heard = len(daemon.ears.verdicts)
        daemon.wait_for(lambda: daemon.ears.state == "ready")
        daemon.wait_for_verdicts(heard + 25)
        assert all(verdict["outcome"] == "pass" for verdict in daemon.ears.verdicts[-10:])
        assert daemon.stop() == 0
        must_add_up(daemon)
        faults = [verdict for verdict in daemon.ears.verdicts if verdict["outcome"] == "fault"]
        assert len(faults) >= 60  # three seconds at 25 a second, less those in flight
        gaps_us = [b["t_publish_us"] - a["t_publish_us"] for a, b in itertools.pairwise(faults)]
        assert max(gaps_us) < 1_000_000  # they came while it hung, not all together afterwards


def test_an_engine_that_hangs_for_good_does_not_keep_the_daemon_from_stopping(tmp_path: Path) -> None:
    """SIGTERM while a driver never comes back: parts are faulted, the process ends."""
    script = [step()] * 10 + [step(delay_ms=600_000)]
    with running(tmp_path, camera=boards(25), script=script, deadline_ms=200) as daemon:
        daemon.wait_for(lambda: daemon.ears.reasons["timeout"] > 5)
        assert daemon.stop() == 0
        must_add_up(daemon)


def test_a_lost_engine_ends_the_process(tmp_path: Path) -> None:
    """A sticky CUDA error cannot be mended in this process: faults, then exit 1, so that systemd starts a new one."""
    script = [step()] * 20 + [step(lost=True, error="CUDA error 719")]
    with running(tmp_path, camera=boards(25), script=script) as daemon:
        assert daemon.process.wait(30) == 1
        must_add_up(daemon)
        assert daemon.ears.reasons["engine_fault"] >= 1
        assert "CUDA error 719" in daemon.log.read_text()


def test_three_times_more_parts_than_the_engine_can_do(tmp_path: Path) -> None:
    """Every part has its verdict by its deadline; what is too much is `overload`, and the engine stays busy."""
    with running(tmp_path, camera=boards(75), script=[step(delay_ms=40)], deadline_ms=300) as daemon:
        daemon.wait_for_verdicts(450)
        assert daemon.stop() == 0
        must_add_up(daemon)
        reasons = daemon.ears.reasons
        assert reasons["overload"] > len(daemon.ears.verdicts) // 2
        assert reasons["timeout"] <= len(daemon.ears.verdicts) // 50
        took_s = (daemon.ears.verdicts[-1]["t_publish_us"] - daemon.ears.verdicts[0]["t_publish_us"]) / 1e6
        assert reasons["ok"] > 0.7 * took_s / 0.040  # most of what the engine could have done


def test_parts_on_the_deadlines_edge(tmp_path: Path) -> None:
    """Answers that come a little before, at and after the last moment: judged in time, or a fault in time."""
    deadline_ms, guard_ms = 200.0, 20.0
    around = [deadline_ms - guard_ms + offset for offset in (-8, -4, -2, -1, 0, 1, 4, 20)]
    script = [step(delay_ms=delay - 6) for delay in around]
    with running(tmp_path, camera=boards(4, 40), script=script, deadline_ms=deadline_ms) as daemon:
        assert daemon.process.wait(60) == 0
        must_add_up(daemon)
        reasons = daemon.ears.reasons
        assert reasons["ok"] >= 5
        assert reasons["timeout"] >= 5
        assert daemon.ears.beats[-1]["counters"]["late"] >= 5  # the answers came, and were not used


def test_the_daemon_stopped_and_continued(tmp_path: Path) -> None:
    """SIGSTOP for two seconds: what was open is a fault, never a late pass; then it goes on."""
    with running(tmp_path, camera=boards(25), script=[step(delay_ms=20)], deadline_ms=200) as daemon:
        daemon.wait_for_verdicts(25)
        daemon.freeze()
        time.sleep(2.0)
        heard = len(daemon.ears.verdicts)
        daemon.send(signal.SIGCONT)
        daemon.wait_for_verdicts(heard + 50)
        assert all(verdict["outcome"] == "pass" for verdict in daemon.ears.verdicts[-20:])
        assert daemon.stop() == 0
        must_add_up(daemon, in_time=False)
