"""Whose signature: what C2PA would refuse is refused before anything is signed, with what to do."""

import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from service.errors import SettingsError
from service.provenance.certificate import development_identity, load_identity
from tests.service.provenance.certificates import NOW, Files, make_files


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "es256"),
        (ec.generate_private_key(ec.SECP384R1()), "es384"),
        (rsa.generate_private_key(65537, 2048), "ps256"),
    ],
)
def test_keys_that_c2pa_knows_are_taken(tmp_path: Path, key: ec.EllipticCurvePrivateKey, algorithm: str) -> None:
    files = make_files(tmp_path, key=key)

    identity = load_identity(files.chain, files.key, now=NOW)

    assert identity.algorithm == algorithm
    assert not identity.is_development
    assert "PRIVATE" not in repr(identity)


def _expired(folder: Path) -> Files:
    return make_files(folder, begins=NOW - timedelta(days=9), ends=NOW - timedelta(days=1))


def _early(folder: Path) -> Files:
    return make_files(folder, begins=NOW + timedelta(hours=1))


def _of_a_server(folder: Path) -> Files:
    return make_files(folder, usage=ExtendedKeyUsageOID.SERVER_AUTH)


def _with_another_key(folder: Path) -> Files:
    other = folder / "other"
    other.mkdir()
    return Files(make_files(folder).chain, make_files(other).key)


def _without_key(folder: Path) -> Files:
    files = make_files(folder)
    files.key.unlink()
    return files


def _without_pem(folder: Path) -> Files:
    files = make_files(folder)
    files.chain.write_text("no certificate")
    return files


def _with_no_key_in_it(folder: Path) -> Files:
    files = make_files(folder)
    files.key.write_text("no key")
    return files


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_expired, "renew it"),
        (_early, "set the clock, or wait"),
        (_of_a_server, "is for another use"),
        (_with_another_key, "is not the key of the first certificate"),
        (_without_key, "can't be read"),
        (_without_pem, "holds no certificates in PEM"),
        (_with_no_key_in_it, "holds no private key in PEM"),
        (lambda folder: make_files(folder, password=b"secret"), "is encrypted"),
        (lambda folder: make_files(folder, is_authority=True), "is an authority's"),
        (lambda folder: make_files(folder, is_reversed=True), "is not the key of the first certificate"),
        (lambda folder: make_files(folder, key=rsa.generate_private_key(65537, 1024)), "at least 2048 bits"),
        (lambda folder: make_files(folder, key=ec.generate_private_key(ec.SECP256K1())), "P-256, P-384, P-521"),
    ],
)
def test_what_could_not_sign_is_refused_with_the_reason(
    tmp_path: Path, make: Callable[[Path], Files], reason: str
) -> None:
    files = make(tmp_path)

    with pytest.raises(SettingsError, match=reason):
        load_identity(files.chain, files.key, now=NOW)


def test_certificates_in_a_wrong_order_are_refused(tmp_path: Path) -> None:
    files = make_files(tmp_path)
    (tmp_path / "other").mkdir()
    stranger = make_files(tmp_path / "other").chain.read_bytes()
    leaf = files.chain.read_bytes().split(b"-----END CERTIFICATE-----\n")[0] + b"-----END CERTIFICATE-----\n"
    files.chain.write_bytes(leaf + stranger)

    with pytest.raises(SettingsError, match="was not issued by the certificate after it"):
        load_identity(files.chain, files.key, now=NOW)


def test_a_development_identity_is_made_once_and_again_when_it_has_ended(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "c2pa"

    first = development_identity(folder, now=NOW)
    same = development_identity(folder, now=NOW + timedelta(days=800))
    renewed = development_identity(folder, now=NOW + timedelta(days=900))

    assert first.is_development
    assert same == first
    assert renewed.chain != first.chain
    assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_processes_that_start_together_agree_on_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        identities = list(threads.map(lambda _: development_identity(tmp_path / "c2pa", now=NOW), range(8)))

    assert len({identity.chain for identity in identities}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c2pa"]


def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(SettingsError, match="set another WANSERVE_DATA_DIR"):
        development_identity(tmp_path / "file" / "c2pa", now=NOW)
