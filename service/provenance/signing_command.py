"""A signature by a program of the operator's, whose key never is in this process: a KMS, an HSM."""

import shlex
import subprocess

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

SECONDS = 15.0
HASHES: dict[str, hashes.HashAlgorithm] = {
    "es256": hashes.SHA256(),
    "es384": hashes.SHA384(),
    "es512": hashes.SHA512(),
    "ps256": hashes.SHA256(),
}
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


class CommandFailed(Exception):
    """It gave no signature, or a wrong one; the words are the message."""


class SigningCommand:
    """It gets the bytes to be signed on its standard input and writes the signature to its standard output."""

    def __init__(self, command: str, certificate: x509.Certificate, *, algorithm: str) -> None:
        """certificate: the signer's, every signature is checked by it. Raises ValueError for a wrong command."""
        self._words = shlex.split(command)
        self._certificate = certificate
        self._algorithm = algorithm

    def sign(self, data: bytes) -> bytes:
        """As C2PA wants it: of an EC key both numbers in a row. Raises CommandFailed."""
        try:
            done = subprocess.run(self._words, input=data, capture_output=True, timeout=SECONDS, check=True)
        except subprocess.TimeoutExpired:
            raise CommandFailed(f"it gave no signature within {SECONDS:g} s") from None
        except subprocess.CalledProcessError as e:
            said = e.stderr.decode(errors="replace").strip()[-200:]
            raise CommandFailed(f"it ended with {e.returncode}: {said or 'it says nothing'}") from e
        except OSError as e:
            raise CommandFailed(f"it can't be run ({e.strerror})") from e
        return self._checked(done.stdout, data)

    def _checked(self, signature: bytes, data: bytes) -> bytes:
        """Before anything is delivered with it."""
        key = self._certificate.public_key()
        try:
            match key:
                case ec.EllipticCurvePublicKey():
                    signature = _in_a_row(signature, key)
                    key.verify(_as_der(signature), data, ec.ECDSA(HASHES[self._algorithm]))
                case rsa.RSAPublicKey():
                    key.verify(signature, data, PSS, hashes.SHA256())
                case ed25519.Ed25519PublicKey():
                    key.verify(signature, data)
        except (InvalidSignature, ValueError) as e:
            raise CommandFailed("its signature does not fit the certificate") from e
        return signature


def _in_a_row(signature: bytes, key: ec.EllipticCurvePublicKey) -> bytes:
    """Most services give ASN.1."""
    width = (key.curve.key_size + 7) // 8
    if len(signature) == 2 * width:
        return signature
    r, s = decode_dss_signature(signature)
    return r.to_bytes(width, "big") + s.to_bytes(width, "big")


def _as_der(signature: bytes) -> bytes:
    half = len(signature) // 2
    return encode_dss_signature(int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
