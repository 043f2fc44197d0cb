"""A small Debian with a real systemd, in a container: made once with debootstrap, cached, never written to again.

Owns where it is kept, what is in it, and how it is booted, entered and shut down. Needs root.
"""

from __future__ import annotations

import configparser
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
SUITE, PYTHON = "bookworm", "3.11"
PACKAGES = "systemd,systemd-sysv,dbus,python3,python3-venv,python3-systemd,procps"
EXTRAS = ("gateway", "opcua", "mqtt")
PREFIX = "opt/edge-inspector"
BOOT_S = 60.0
RECIPE = "[reject]\ncritical = 1\n"  # of an engine in the guest


def lacks() -> str | None:
    """Why there can be no guest here, with the command that mends it; None where there can."""
    if os.geteuid() != 0:
        return "needs root: sudo -E .venv/bin/python -m pytest -m slow tests/systemd"
    missing = [name for name in ("systemd-nspawn", "debootstrap", "nsenter", "unshare") if not shutil.which(name)]
    if missing:
        return f"no {', '.join(missing)} here: apt-get install systemd-container debootstrap util-linux"
    return None


class Guest:
    """A guest that has booted. leader: the host's number for its PID 1."""

    def __init__(self, leader: int) -> None:
        self._enter = ["nsenter", "-t", str(leader), "-a", "--"]

    def run(self, *command: str, stdin: str = "", check: bool = True, timeout_s: float = 60.0) -> str:
        """What a command prints that root runs in the guest. Raises AssertionError with its words."""
        done = subprocess.run(
            [*self._enter, *command], input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """A file of the guest, whose folder is made where there is none."""
        self.run("sh", "-c", f"mkdir -p '{Path(path).parent}' && cat > '{path}'", stdin=text)

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", unit, "--property", name, "--value").strip()


@contextlib.contextmanager
def booted() -> Iterator[Guest]:
    """A guest with edge-inspector installed in /opt/edge-inspector and the checkout's systemd/ in /src/systemd.

    What it writes goes to memory, and is gone with it.
    """
    root = _root()
    supervised = Path("/run/systemd/system").is_dir()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*_pip("wheel"), "--no-deps", "--wheel-dir", folder, str(_copy(Path(folder)))], check=True)
        shutil.copytree(CHECKOUT / "systemd", Path(folder) / "systemd")
        nspawn = [
            *("systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay", "--private-network"),
            *(f"--bind-ro={folder}:/src", "--register=no", "--console=pipe", "--boot"),
            "--system-call-filter=bpf",  # without it DeviceAllow does nothing in the guest
            *([] if supervised else ["--keep-unit"]),
        ]
        # without a systemd on this machine there is nobody who would have mounted a cgroup2 that the guest can use
        mount = "" if supervised else "umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup;"
        script = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mount} exec "$@"', "sh", *nspawn]
        with (Path(folder) / "console").open("w") as console:
            process = subprocess.Popen(script, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        try:
            guest = Guest(_leader(process, Path(folder) / "console"))
            _wait_until_up(guest)
            guest.run("sh", "-c", f"/{PREFIX}/bin/pip install --quiet --no-index --no-deps /src/*.whl")
            yield guest
        finally:
            process.terminate()  # nspawn asks its PID 1 to shut down
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if not supervised:
                _clear_up()


def eventually(condition: Callable[[], bool], within_s: float) -> float:
    """Wait for something; how long it took, in seconds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.1)
    return time.monotonic() - began


def drop_in(guest: Guest, unit: str, text: str) -> None:
    """Settings of one line's own, until the guest is gone."""
    guest.write(f"/run/systemd/system/{unit}.service.d/test.conf", text)
    guest.run("systemctl", "daemon-reload")


def journal(guest: Guest, unit: str) -> str:
    """What the journal has of a unit."""
    guest.run("journalctl", "--sync")
    return guest.run("journalctl", "-u", unit, "-o", "cat", "--no-pager")


def _clear_up() -> None:
    """Remove the two control groups that nspawn leaves behind where it made them itself; only empty ones can be."""
    for mount in Path("/proc/mounts").read_text().splitlines():
        where, kind = mount.split()[1:3]
        for name in ("payload", "supervisor") if kind == "cgroup2" else ():
            for folder, _, _ in os.walk(Path(where, name), topdown=False):
                with contextlib.suppress(OSError):
                    Path(folder).rmdir()


def _root() -> Path:
    """The cached root file system; made where it is missing or was made by another recipe (two to five minutes)."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    needed = [setup["options"]["install_requires"], *(setup["options.extras_require"][name] for name in EXTRAS)]
    libraries = [line for line in "\n".join(needed).splitlines() if line and "tomli" not in line]
    recipe = "\n".join([SUITE, PACKAGES, *libraries])
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edge-inspector"
    root, stamp = cache / "debian-root", cache / "debian-root.recipe"
    if stamp.is_file() and stamp.read_text() == recipe:
        return root
    stamp.unlink(missing_ok=True)
    shutil.rmtree(root, ignore_errors=True)
    cache.mkdir(parents=True, exist_ok=True)
    subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root)], check=True)
    # the system's packages show through, as they must for python3-systemd, and on a Jetson for TensorRT
    subprocess.run(["chroot", root, "python3", "-m", "venv", "--system-site-packages", f"/{PREFIX}"], check=True)
    # this machine's pip fetches for the guest, which has no network of its own
    target = root / PREFIX / "lib" / f"python{PYTHON}" / "site-packages"
    wheels = ["--python-version", PYTHON, "--only-binary", ":all:", "--target", str(target)]
    subprocess.run([*_pip("install"), *wheels, *libraries], check=True)
    stamp.write_text(recipe)
    return root


def _pip(verb: str) -> list[str]:
    return [sys.executable, "-m", "pip", verb, "--quiet", "--disable-pip-version-check"]


def _copy(folder: Path) -> Path:
    """What a wheel is made of, away from the checkout, where the build would leave files."""
    source = folder / "source"
    for name in ("edge_inspector", "engines"):
        shutil.copytree(CHECKOUT / name, source / name)
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    return source


def _leader(process: subprocess.Popen[bytes], console: Path) -> int:
    """The child of nspawn that became the guest's PID 1."""
    until = time.monotonic() + BOOT_S
    while time.monotonic() < until and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children and Path(f"/proc/{children[0]}/comm").read_text().strip() == "systemd":
            return int(children[0])
        time.sleep(0.1)
    raise AssertionError(f"the guest did not start: {console.read_text()}")


def _wait_until_up(guest: Guest) -> None:
    until = time.monotonic() + BOOT_S
    state = ""
    while time.monotonic() < until:
        state = guest.run("systemctl", "is-system-running", check=False).strip()
        if state in ("running", "degraded"):
            return
        time.sleep(0.2)
    raise AssertionError(f"the guest is {state or 'mute'} after {BOOT_S:g} s")
