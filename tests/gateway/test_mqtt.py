"""MQTT against a real broker: what arrives, what is told when the gateway dies, and what a broken broker costs."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge_inspector.codec import to_json
from edge_inspector.errors import ConfigError
from edge_inspector.gateway import mqtt as module
from edge_inspector.gateway.config import MqttTable
from edge_inspector.gateway.mqtt import Mqtt

from .samples import config, free_port, part, status, until, verdict

ROOT = Path(__file__).parents[2]
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
pytestmark = pytest.mark.skipif(BROKER is None, reason="needs a broker: apt-get install mosquitto")


class Broker:
    """A mosquitto of our own on 127.0.0.1, that can be stopped and started again on the same port."""

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", "user root", *settings]
        self._file.write_text("\n".join(lines if settings else [*lines, "allow_anonymous true"]) + "\n")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Until it listens."""
        assert BROKER is not None
        self.process = subprocess.Popen([BROKER, "-c", self._file], stderr=subprocess.DEVNULL)
        until(self._answers)

    def stop(self) -> None:
        """For good, or for now."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "mosquitto has ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False


class Ear:
    """Another client, who hears everything. messages: (topic, payload, retained)."""

    def __init__(self, port: int, **security: Any) -> None:
        self.messages: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.reconnect_delay_set(1, 1)
        if "user" in security:
            self._client.username_pw_set(security["user"], security["password"])
        if "ca" in security:
            self._client.tls_set(ca_certs=str(security["ca"]))
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda client, data, message: self.messages.append(
            (message.topic, message.payload, message.retain)
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert self._subscribed.wait(20)

    def of(self, topic: str) -> list[Any]:
        """What was said under a topic."""
        return [json.loads(payload) for each, payload, _ in self.messages if each == topic]

    def close(self) -> None:
        """Go."""
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """It runs already."""
    broker = Broker(tmp_path)
    broker.start()
    yield broker
    broker.stop()


@contextlib.contextmanager
def ear(broker: Broker, **security: Any) -> Iterator[Ear]:
    """Listening."""
    ear = Ear(broker.port, **security)
    yield ear
    ear.close()


@contextlib.contextmanager
def mqtt(folder: Path, broker: Broker, **table: str) -> Iterator[Mqtt]:
    """Ours, started."""
    mqtt = Mqtt(config(folder, mqtt=MqttTable(broker=f"127.0.0.1:{broker.port}", **table)))
    mqtt.start()
    yield mqtt
    mqtt.close()


def test_what_is_told(tmp_path: Path, broker: Broker) -> None:
    """Verdicts of our station under the daemon's name for them, parts and status under ours; the status is kept."""
    with ear(broker) as heard, mqtt(tmp_path, broker, topic="plant/hall2") as ours:
        ours.verdict(verdict(1, "reject"))
        ours.verdict(verdict(2, "pass"))
        ours.verdict(verdict(3, "reject", station="bottom"))
        ours.part(part(1))
        ours.status(status(parts=1))
        until(lambda: heard.of("plant/hall2/g1/part") and heard.of("plant/hall2/g1/status"))
        assert heard.of("plant/hall2/line1/top/verdict/reject") == [verdict(1, "reject")]
        assert heard.of("plant/hall2/line1/top/verdict/pass") == [verdict(2, "pass")]
        assert not [topic for topic, *_ in heard.messages if "bottom" in topic]
        (record,) = heard.of("plant/hall2/g1/part")
        assert (record["id"], record["action"], record["why"], record["t_written_us"]) == (1, "reject", "defect", None)
        (told,) = heard.of("plant/hall2/g1/status")
        assert (told["healthy"], told["state"], told["counts"], told["beat"]) == (True, 8, {"parts": 1}, 1)
        assert heard.of("plant/hall2/g1/online") == [1]
        with ear(broker) as late:
            until(lambda: len(late.messages) == 2)
            kept = {topic: retained for topic, _, retained in late.messages}
            assert kept == {"plant/hall2/g1/status": True, "plant/hall2/g1/online": True}
        assert ours.dropped == 0


def test_a_status_is_told_when_it_changes_and_now_and_then(tmp_path: Path, broker: Broker) -> None:
    """Ten a second would be too much for a dashboard; a change must not wait for the next."""
    with ear(broker) as heard, mqtt(tmp_path, broker) as ours:
        until(lambda: heard.of("edge-inspector/g1/online"))
        for n in range(1, 10):
            ours.status(status(parts=n))
            if n == 1:
                until(lambda: len(heard.of("edge-inspector/g1/status")) == 1)
        ours.part(part(1))
        until(lambda: heard.of("edge-inspector/g1/part"))
        assert [each["beat"] for each in heard.of("edge-inspector/g1/status")] == [1]
        ours.status(status(parts=10))
        until(lambda: len(heard.of("edge-inspector/g1/status")) == 2)
        ours.status(status(healthy=False, state=3, parts=10))
        until(lambda: len(heard.of("edge-inspector/g1/status")) == 3)
        assert [each["beat"] for each in heard.of("edge-inspector/g1/status")] == [1, 10, 11]


def test_going_is_told(tmp_path: Path, broker: Broker) -> None:
    """What waited is sent first."""
    with ear(broker) as heard:
        with mqtt(tmp_path, broker) as ours:
            until(lambda: heard.of("edge-inspector/g1/online"))
            for seq in range(1, 101):
                ours.part(part(seq))
        until(lambda: len(heard.of("edge-inspector/g1/online")) == 2)
        assert heard.of("edge-inspector/g1/online") == [1, 0]
        assert [each["id"] for each in heard.of("edge-inspector/g1/part")] == list(range(1, 101))


VICTIM = """
import sys, time
from pathlib import Path
from edge_inspector.gateway.config import MqttTable
from edge_inspector.gateway.mqtt import Mqtt
from tests.gateway.samples import config, status
mqtt = Mqtt(config(Path(sys.argv[1]), mqtt=MqttTable(broker=sys.argv[2])))
mqtt.start()
while True:
    mqtt.status(status())
    time.sleep(0.1)
"""


def test_the_last_will_of_a_gateway_that_is_killed(tmp_path: Path, broker: Broker) -> None:
    """The broker says that it is gone, also to who asks later."""
    command = [sys.executable, "-c", VICTIM, str(tmp_path), f"127.0.0.1:{broker.port}"]
    with ear(broker) as heard, subprocess.Popen(command, cwd=ROOT) as victim:
        try:
            until(lambda: heard.of("edge-inspector/g1/status"))
            assert heard.of("edge-inspector/g1/online") == [1]
        finally:
            victim.send_signal(signal.SIGKILL)
        until(lambda: heard.of("edge-inspector/g1/online") == [1, 0])
        with ear(broker) as late:
            until(lambda: late.of("edge-inspector/g1/online") == [0])


def test_a_broker_that_comes_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is no error, it is said once however often it is tried, and what waited is told when it is there."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.02)
    broker, tries = Broker(tmp_path), 0
    make = Mqtt._client

    def counted(self: Mqtt) -> Client:
        nonlocal tries
        tries += 1
        return make(self)

    monkeypatch.setattr(Mqtt, "_client", counted)
    with mqtt(tmp_path, broker) as ours:
        ours.part(part(1))
        until(lambda: tries > 10)
        assert caplog.messages.count("no broker") == 1
        broker.start()
        try:
            with ear(broker) as heard:
                until(lambda: heard.of("edge-inspector/g1/online"))
                ours.part(part(2))
                until(lambda: heard.of("edge-inspector/g1/part")[-1:] == [json.loads(to_json(part(2)))])
        finally:
            broker.stop()


def test_a_broker_that_is_restarted(tmp_path: Path, broker: Broker) -> None:
    """Publishing goes on by itself, with everything that was said meanwhile."""
    with mqtt(tmp_path, broker) as ours:
        with ear(broker) as heard:
            ours.part(part(1))
            until(lambda: heard.of("edge-inspector/g1/part"))
        broker.stop()
        for seq in range(2, 52):
            ours.part(part(seq))
        broker.start()
        with ear(broker) as heard:
            ours.part(part(52))
            until(lambda: heard.of("edge-inspector/g1/part") and heard.of("edge-inspector/g1/part")[-1]["id"] == 52)
        assert ours.dropped == 0


def test_what_a_broker_took_and_did_not_acknowledge_is_sent_again(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It froze, and then it died."""
    make, may_connect = Mqtt._client, threading.Event()
    may_connect.set()

    def gated(self: Mqtt) -> Client:
        may_connect.wait(30)
        return make(self)

    monkeypatch.setattr(Mqtt, "_client", gated)
    with mqtt(tmp_path, broker) as ours:
        with ear(broker) as heard:
            ours.part(part(1))
            until(lambda: heard.of("edge-inspector/g1/part"))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        for seq in range(2, 52):
            ours.part(part(seq))
        until(lambda: len(ours._in_flight) == module.IN_FLIGHT)
        may_connect.clear()
        broker.stop()
        broker.start()
        with ear(broker) as heard:
            may_connect.set()  # not before somebody listens
            until(lambda: [each["id"] for each in heard.of("edge-inspector/g1/part")][-1:] == [51])
        assert [each["id"] for each in heard.of("edge-inspector/g1/part")] == list(range(2, 52))


def test_a_broker_that_is_frozen_makes_nobody_wait(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many messages wait, the oldest are dropped and counted, and the newest arrive when it goes on."""
    monkeypatch.setattr(module, "WAITING", 100)
    with mqtt(tmp_path, broker) as ours, ear(broker) as heard:
        ours.part(part(1))
        until(lambda: heard.of("edge-inspector/g1/part"))
        assert broker.process is not None
        broker.process.send_signal(signal.SIGSTOP)
        for seq in range(2, 5002):
            ours.part(part(seq))
            ours.status(status(parts=seq))
        assert 5000 - 100 - module.IN_FLIGHT <= ours.dropped <= 5000 - 100
        broker.process.send_signal(signal.SIGCONT)
        until(lambda: heard.of("edge-inspector/g1/part")[-1]["id"] == 5001)
        told = {each["id"] for each in heard.of("edge-inspector/g1/part")}
        assert len(told) == 5001 - ours.dropped
        assert told >= set(range(4902, 5002))


def test_a_broker_that_never_answers_does_not_hold_up_the_end(tmp_path: Path, broker: Broker) -> None:
    """`close` gives up what cannot be said, and the thread ends."""
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)
    with mqtt(tmp_path, broker) as ours:
        ours.part(part(1))
    until(lambda: not ours._thread.is_alive())


def certificates(folder: Path, host: str) -> None:
    """ca.pem, and cert.pem with key.pem for a host, signed by it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    now, keys = datetime.now(timezone.utc), [rsa.generate_private_key(65537, 2048) for _ in range(2)]
    for file, subject, key, is_ca in (("ca", "ca", keys[0], True), ("cert", host, keys[1], False)):
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("ca"))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        if not is_ca:
            import ipaddress

            names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
            builder = builder.add_extension(names, critical=False)
        signed = builder.sign(keys[0], hashes.SHA256())
        (folder / f"{file}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    (folder / "key.pem").write_bytes(keys[1].private_bytes(encoding, form, serialization.NoEncryption()))


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Broker]:
    """A broker with TLS for 127.0.0.1 and one user, vision, whose password is in a file."""
    certificates(tmp_path, "127.0.0.1")
    (tmp_path / "password").write_text("a secret\n")
    (tmp_path / "password").chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-b", "-c", tmp_path / "users", "vision", "a secret"], check=True)
    files = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/cert.pem", f"keyfile {tmp_path}/key.pem"]
    broker = Broker(tmp_path, *files, "allow_anonymous false", f"password_file {tmp_path}/users")
    broker.start()
    yield broker
    broker.stop()


def test_encryption_and_a_password(tmp_path: Path, secured: Broker) -> None:
    """With both right it connects."""
    who = {"user": "vision", "password": "a secret", "ca": tmp_path / "ca.pem"}
    with (
        ear(secured, **who) as heard,
        mqtt(tmp_path, secured, user="vision", password="password", ca="ca.pem") as ours,
    ):
        ours.part(part(1))
        until(lambda: heard.of("edge-inspector/g1/part"))


def test_a_wrong_password_is_said(tmp_path: Path, secured: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the broker's reason."""
    (tmp_path / "password").write_text("another\n")
    with mqtt(tmp_path, secured, user="vision", password="password", ca="ca.pem"):
        until(lambda: "no broker" in caplog.messages)
    (record,) = [each for each in caplog.records if each.message == "no broker"]
    assert "Not authorized" in record.__dict__["reason"]


def test_a_broker_with_a_certificate_of_somebody_else(
    tmp_path: Path, secured: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    """No password is sent to it."""
    (tmp_path / "other").mkdir()
    certificates(tmp_path / "other", "127.0.0.1")
    with mqtt(tmp_path, secured, user="vision", password="password", ca="other/ca.pem"):
        until(lambda: "no broker" in caplog.messages)
    (record,) = [each for each in caplog.records if each.message == "no broker"]
    assert "CERTIFICATE_VERIFY_FAILED" in record.__dict__["reason"]


def test_files_that_are_not_as_they_should_be(tmp_path: Path) -> None:
    """File, key and mend are named at the start."""
    broker = "127.0.0.1:1883"
    (tmp_path / "ca.pem").write_text("no certificate\n")
    (tmp_path / "password").write_text("a secret\n")
    (tmp_path / "password").chmod(0o640)
    with pytest.raises(ConfigError, match=r"gateway\.toml: mqtt\.ca: .*ca\.pem: .*PEM"):
        Mqtt(config(tmp_path, mqtt=MqttTable(broker=broker, ca="ca.pem"))).start()
    with pytest.raises(ConfigError, match=r"mqtt\.password: others can read .*; run: chmod 600 "):
        Mqtt(config(tmp_path, mqtt=MqttTable(broker=broker, user="vision", password="password"))).start()
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "password").write_text("")
    with pytest.raises(ConfigError, match=r"mqtt\.password: .* has 0 lines"):
        Mqtt(config(tmp_path, mqtt=MqttTable(broker=broker, user="vision", password="password"))).start()
    with pytest.raises(ConfigError, match=r"mqtt\.password: .*absent cannot be read"):
        Mqtt(config(tmp_path, mqtt=MqttTable(broker=broker, user="vision", password="absent"))).start()
