"""A timestamp authority vouches for the time of signing; one that is away, silent or wrong holds no file back."""

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from c2pa import Reader

from service.provenance import timestamps
from service.provenance.evidence import Seal, examine
from service.provenance.notary import Notary, known_anchors
from service.settings import Settings
from worker.media.encode import save_mp4

TSA = """
[ tsa ]
default_tsa = authority
[ authority ]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


@pytest.fixture
def authority_files(tmp_path: Path) -> Path:
    """A real authority's certificate and configuration, for openssl."""
    folder = tmp_path / "tsa"
    folder.mkdir()
    (folder / "serial").write_text("01")
    (folder / "openssl.cnf").write_text(TSA.format(folder=folder))
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    run(*new, "-subj", "/O=Root/CN=Root", "-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.pem"))
    issued = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-addext", "basicConstraints=CA:FALSE"]
    issued += ["-addext", "extendedKeyUsage=critical,timeStamping", "-addext", "keyUsage=critical,digitalSignature"]
    run(
        *new, *issued, "-subj", "/O=Clock/CN=Clock", "-keyout", str(folder / "tsa.key"), "-out", str(folder / "tsa.pem")
    )
    return folder


def run(*command: str) -> bytes:
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def stamped(folder: Path, query: bytes) -> bytes:
    (folder / "query").write_bytes(query)
    return run("openssl", "ts", "-reply", "-config", str(folder / "openssl.cnf"), "-queryfile", str(folder / "query"))


@contextmanager
def authority(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reply = answer(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(reply)))
            self.end_headers()
            self.wfile.write(reply)

        def log_message(self, *arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def silent_authority() -> Iterator[str]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def no_authority() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def sealed(path: Path, settings: Settings, untimed: list[int]) -> bool:
    save_mp4(np.zeros((3, 64, 96, 3), np.uint8), 8, path)
    notary = Notary(settings, on_untimed=lambda: untimed.append(1))
    generation = notary.generation(asset_id="a", model="m", fingerprint="f", parameters={}, prompts=("p", ""))
    return notary.seal(path, generation)


def test_a_file_carries_the_authoritys_time(tmp_path: Path, authority_files: Path) -> None:
    untimed: list[int] = []
    with authority(lambda query: stamped(authority_files, query)) as url:
        settings = Settings(data_dir=tmp_path / "data", c2pa_timestamp_url=url)
        assert sealed(tmp_path / "a.mp4", settings, untimed)

    assert untimed == []
    with Reader(str(tmp_path / "a.mp4")) as reader:
        report = json.loads(reader.json())
    assert report["manifests"][report["active_manifest"]]["signature_info"]["time"]


@pytest.mark.parametrize("away", [no_authority, silent_authority, lambda: authority(lambda query: b"no timestamp")])
def test_an_authority_that_gives_no_time_holds_no_signature_back(
    tmp_path: Path, away: Callable[[], Iterator[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timestamps.TimestampRelay.__init__, "__kwdefaults__", {"seconds": 0.3})
    untimed: list[int] = []
    with away() as url:  # type: ignore[attr-defined]
        settings = Settings(data_dir=tmp_path / "data", c2pa_timestamp_url=url)
        assert sealed(tmp_path / "a.mp4", settings, untimed)

    assert untimed == [1]
    assert examine(tmp_path / "a.mp4", anchors=known_anchors(settings)).signature.seal is Seal.TRUSTED
