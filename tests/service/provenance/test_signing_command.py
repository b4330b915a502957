"""A program of the operator's signs: openssl, which keeps the key in a file of its own."""

import shlex
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from structlog.testing import capture_logs

from service.errors import SettingsError
from service.provenance import signing_command
from service.provenance.evidence import Seal, examine
from service.provenance.notary import Notary, known_anchors
from service.settings import Settings
from tests.service.provenance.certificates import Files, Key, make_files
from worker.media.encode import save_mp4

TIMES = {"begins": datetime.now(UTC) - timedelta(days=1), "ends": datetime.now(UTC) + timedelta(days=30)}


def command_for(files: Files, *, digest: str = "sha256", options: str = "") -> str:
    return f"openssl dgst -{digest} {options} -sign {shlex.quote(str(files.key))}"


def sealed(path: Path, notary: Notary) -> bool:
    save_mp4(np.zeros((3, 64, 96, 3), np.uint8), 8, path)
    generation = notary.generation(asset_id="a", model="m", fingerprint="f", parameters={}, prompts=("p", ""))
    return notary.seal(path, generation)


@pytest.mark.parametrize(
    ("key", "digest", "options"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "sha256", ""),
        (ec.generate_private_key(ec.SECP384R1()), "sha384", ""),
        (
            rsa.generate_private_key(65537, 2048),
            "sha256",
            "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32",
        ),
    ],
    ids=["P-256", "P-384", "RSA"],
)
def test_a_file_is_signed_by_a_command_that_has_the_key(tmp_path: Path, key: Key, digest: str, options: str) -> None:
    files = make_files(tmp_path, key=key, **TIMES)
    command = command_for(files, digest=digest, options=options)
    settings = Settings(data_dir=tmp_path, c2pa_certificate=files.chain, c2pa_sign_command=command)

    assert sealed(tmp_path / "a.mp4", Notary(settings))

    assert examine(tmp_path / "a.mp4", anchors=known_anchors(settings)).signature.seal is Seal.TRUSTED


def test_a_key_may_come_from_the_environment(tmp_path: Path) -> None:
    files = make_files(tmp_path, **TIMES)
    settings = Settings(data_dir=tmp_path, c2pa_certificate=files.chain, c2pa_key_pem=files.key.read_text())

    assert sealed(tmp_path / "a.mp4", Notary(settings))

    assert examine(tmp_path / "a.mp4", anchors=known_anchors(settings)).signature.seal is Seal.TRUSTED


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("/nowhere/sign", "can't be run"),
        ("false", "ended with 1"),
        ("cat", "does not fit the certificate"),
        ("'unbalanced", "No closing quotation"),
        (f"{sys.executable} -c 'import time; time.sleep(60)'", "within 0.5 s"),
    ],
)
def test_a_command_that_cant_sign_is_refused_at_the_start(
    tmp_path: Path, command: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing_command, "SECONDS", 0.5)
    files = make_files(tmp_path, **TIMES)
    settings = Settings(data_dir=tmp_path, c2pa_certificate=files.chain, c2pa_sign_command=command)

    with pytest.raises(SettingsError, match=says):
        Notary(settings)


def test_a_command_that_fails_later_leaves_a_file_unsigned_and_says_so(tmp_path: Path) -> None:
    files = make_files(tmp_path, **TIMES)
    settings = Settings(data_dir=tmp_path, c2pa_certificate=files.chain, c2pa_sign_command=command_for(files))
    notary = Notary(settings)
    files.key.unlink()

    with capture_logs() as logs:
        assert not sealed(tmp_path / "a.mp4", notary)

    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["file_not_signed"]
    assert examine(tmp_path / "a.mp4").signature.seal is Seal.NONE


def test_two_keys_at_once_are_refused(tmp_path: Path) -> None:
    files = make_files(tmp_path, **TIMES)
    both = Settings(c2pa_certificate=files.chain, c2pa_key=files.key, c2pa_sign_command="true")
    with pytest.raises(SettingsError, match="not several"):
        both.check()
