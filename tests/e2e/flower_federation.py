"""A real SuperLink with SuperNodes over TLS, each registered by its key; processes of their own."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization import PublicFormat as Public
from cryptography.x509.oid import NameOID

from tests.e2e.network import dying_with_parent

APP: Final = Path(__file__).with_name("flower_app")
COMMAND_S: Final = 60.0
STOP_S: Final = 10.0
LINK: Final = "local"


class FlowerFederation:
    """What runs, and where it writes what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.port = _free_port()
        self._children: list[subprocess.Popen[bytes]] = []
        binaries = str(Path(sys.executable).parent)
        self._environment = os.environ | {
            "FLWR_HOME": str(folder),
            "FLWR_TELEMETRY_ENABLED": "0",
            "FLWR_DISABLE_UPDATE_CHECK": "1",
            "PATH": f"{binaries}:{os.environ['PATH']}",
        }
        _write_certificate(folder)
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "{LINK}"\n\n[superlink.{LINK}]\n'
            f'address = "127.0.0.1:{self.port}"\nroot-certificates = "{folder / "ca.pem"}"\n'
        )

    def start_superlink(self) -> None:
        self._start(
            "superlink", "flower-superlink", "--host", "127.0.0.1", "--port", str(self.port),
            "--ssl-certfile", "server.pem", "--ssl-keyfile", "server.key",
            "--ssl-ca-certfile", "ca.pem", "--enable-supernode-auth",
            "--disable-runtime-dependency-installation",
        )  # fmt: skip

    def start_supernode(self, name: str, settings: Mapping[str, str | float]) -> None:
        """Register the key of a SuperNode and start it."""
        key = ec.generate_private_key(ec.SECP384R1())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
        (self.folder / f"{name}.key").write_bytes(private)
        public = key.public_key().public_bytes(Encoding.OpenSSH, Public.OpenSSH)
        (self.folder / f"{name}.pub").write_bytes(public)
        self.run("supernode", "register", str(self.folder / f"{name}.pub"), LINK)
        config = " ".join(
            [f'{n}="{v}"' if isinstance(v, str) else f"{n}={v}" for n, v in settings.items()]
        )
        self._start(
            name, "flower-supernode", "--superlink", f"127.0.0.1:{self.port}",
            "--root-certificates", "ca.pem", "--auth-supernode-private-key", f"{name}.key",
            "--host", "127.0.0.1", "--port", str(_free_port()), "--ssl-certfile", "server.pem",
            "--ssl-keyfile", "server.key", "--ssl-ca-certfile", "ca.pem", "--node-config", config,
        )  # fmt: skip

    def run(self, *command: str, timeout_s: float = COMMAND_S) -> str:
        """Run ``flwr`` and return what it prints."""
        done = subprocess.run(
            ["flwr", *command], cwd=self.folder, env=self._environment, timeout=timeout_s,
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> None:
        """End everything, whatever it has started included."""
        for child in reversed(self._children):
            child.terminate()
        for child in self._children:
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        for process in _left_over(self.folder):
            os.kill(process, signal.SIGKILL)

    def _start(self, name: str, *command: str) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self._children.append(
                subprocess.Popen(
                    [*dying_with_parent(), *command], cwd=self.folder, env=self._environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                )
            )  # fmt: skip


@contextmanager
def flower_federation(folder: Path) -> Iterator[FlowerFederation]:
    """Make one, and end its processes whatever happens."""
    made = FlowerFederation(folder)
    try:
        yield made
    except BaseException:
        for log in sorted(folder.glob("*.log")):
            print(f"--- {log.stem}\n{log.read_text(errors='replace')[-4_000:]}")
        raise
    finally:
        made.stop()


def _left_over(folder: Path) -> Sequence[int]:
    """Return the processes that still have the folder as FLWR_HOME: children of our children."""
    mark = f"FLWR_HOME={folder}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return [process for process in found if process != os.getpid()]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _write_certificate(folder: Path) -> None:
    """Write an authority and a certificate of it for this machine."""
    now = datetime.now(UTC)

    def make(
        name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, *, is_ca: bool
    ) -> x509.CertificateBuilder:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        )

    authority, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = make("authority", authority, _name("authority"), is_ca=True)
    leaf = make("server", server, _name("authority"), is_ca=False)
    for name, builder in (("ca", root), ("server", leaf)):
        signed = builder.sign(authority, hashes.SHA256())
        (folder / f"{name}.pem").write_bytes(signed.public_bytes(Encoding.PEM))
    private = server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "server.key").write_bytes(private)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
