"""Marks this process' files: the label in their metadata, and the signature over all of them."""

import errno
import os
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from service.errors import SettingsError
from service.logs import get_logger
from service.provenance.certificate import (
    Identity,
    development_identity,
    identity_by_command,
    identity_of,
    load_identity,
)
from service.provenance.label import label_tags
from service.provenance.manifest import Generation, SigningFailed, prompt_hmac, sign
from service.provenance.timestamps import TimestampRelay
from service.settings import Settings

log = get_logger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


def known_anchors(settings: Settings) -> list[str]:
    """Certificates in PEM of our own signer's issuers, to trust: the configured chain's, or the development root."""
    chain = settings.c2pa_certificate or settings.data_dir / "c2pa" / "chain.pem"
    if not chain.exists():
        return []
    certificates = x509.load_pem_x509_certificates(chain.read_bytes())
    # A signer that nobody else vouches for vouches for itself.
    issuers = certificates[1:] or certificates
    return [certificate.public_bytes(serialization.Encoding.PEM).decode() for certificate in issuers]


class Notary:
    """May be used from several threads. Raises SettingsError for a certificate that can't sign."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_unsigned: Callable[[], object] = lambda: None,
        on_untimed: Callable[[], object] = lambda: None,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._settings = settings
        self._on_unsigned = on_unsigned
        self._on_untimed = on_untimed
        self._clock = clock
        self._prompt_key = settings.provenance_key()
        self._watermark_key = settings.watermark_keys()[0] if settings.watermark == "on" else None
        self._seen = self._files_state()
        self._identity = self._load()
        if self._identity.is_development:
            log.warning(
                "files_signed_for_development",
                reason="Elsewhere the signer is unknown: set WANSERVE_C2PA_CERTIFICATE and WANSERVE_C2PA_KEY.",
            )

    @property
    def expires_at(self) -> datetime:
        """When the first certificate of the chain ends."""
        return self._identity.not_after

    def tags(self, asset_id: str) -> dict[str, str]:
        """To be written while the file is made."""
        return label_tags(producer=self._settings.content_producer, asset_id=asset_id)

    @property
    def watermark_key(self) -> bytes | None:
        """None: pictures get no mark."""
        return self._watermark_key

    def generation(
        self,
        *,
        asset_id: str,
        model: str,
        fingerprint: str,
        parameters: Mapping[str, object],
        prompts: tuple[str, str],
        revision: str | None = None,
        parent_asset_id: str | None = None,
        is_watermarked: bool = False,
    ) -> Generation:
        """prompts: prompt and negative prompt, of which only a keyed hash goes into the file."""
        return Generation(
            asset_id=asset_id,
            model=model,
            fingerprint=fingerprint,
            revision=revision,
            parameters=dict(parameters),
            prompt_hmac=prompt_hmac(*prompts, key=self._prompt_key),
            parent_asset_id=parent_asset_id,
            is_watermarked=is_watermarked,
        )

    def seal(self, file: Path, generation: Generation, *, parent: Path | None = None) -> bool:
        """Sign a finished MP4 file in its place, the last change that it may see. False: it stays unsigned.

        parent: the file that it is a remix of, where it is there.

        A video is not lost because it can't be signed; the log says why, every time. Raises OSError on a full disk.
        """
        signed = file.with_name(f".{file.name}.signed")
        try:
            identity = self._current()
            identity.check_time(self._clock())
            self._sign(file, signed, generation, identity, parent)
            signed.replace(file)
        except SettingsError as e:
            return self._leave_unsigned(generation, e.message)
        except SigningFailed as e:
            # The library writes through a stream, and tells a full disk in words of its own.
            if shutil.disk_usage(file.parent).free < file.stat().st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(signed)) from e
            return self._leave_unsigned(generation, str(e))
        finally:
            signed.unlink(missing_ok=True)
        return True

    def _sign(self, file: Path, signed: Path, generation: Generation, identity: Identity, parent: Path | None) -> None:
        """With the authority's time where there is one; without it rather than not at all."""
        authority = self._settings.c2pa_timestamp_url
        if authority is None:
            sign(file, signed, generation, identity, parent=parent)
            return
        try:
            with TimestampRelay(authority) as relay:
                sign(file, signed, generation, identity, parent=parent, timestamp_url=relay.url)
        except SigningFailed as e:
            # Should that not have been the reason, this fails too, and says it.
            sign(file, signed, generation, identity, parent=parent)
            self._on_untimed()
            log.warning("file_signed_without_timestamp", asset_id=generation.asset_id, reason=str(e))

    def _leave_unsigned(self, generation: Generation, reason: str) -> bool:
        self._on_unsigned()
        log.error("file_not_signed", asset_id=generation.asset_id, reason=reason)
        return False

    def _current(self) -> Identity:
        """Renewed certificates are taken without a restart, once they fit."""
        seen = self._files_state()
        if seen != self._seen:
            self._identity = self._load()
            self._seen = seen
            log.info("certificate_renewed", signer=self._identity.name, ends=self._identity.not_after.isoformat())
        return self._identity

    def _load(self) -> Identity:
        settings, now = self._settings, self._clock()
        if settings.c2pa_certificate is None:
            return development_identity(settings.data_dir / "c2pa", now=now)
        if settings.c2pa_sign_command is not None:
            return identity_by_command(settings.c2pa_certificate, settings.c2pa_sign_command, now=now)
        if settings.c2pa_key_pem is not None:
            key = settings.c2pa_key_pem.get_secret_value().encode()
            return identity_of(settings.c2pa_certificate, key, key_name="WANSERVE_C2PA_KEY_PEM", now=now)
        assert settings.c2pa_key is not None
        return load_identity(settings.c2pa_certificate, settings.c2pa_key, now=now)

    def _files_state(self) -> tuple[int, ...]:
        files = (self._settings.c2pa_certificate, self._settings.c2pa_key)
        return tuple(file.stat().st_mtime_ns for file in files if file is not None and file.exists())
