"""Who signs: a certificate chain and its key, from files, or made for development. Source: C2PA 2.2, section 14.5."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes, CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.errors import SettingsError
from service.provenance.signing_command import CommandFailed, SigningCommand

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
ROOT_DAYS, LEAF_DAYS = 3650, 825
BACKDATED = timedelta(hours=1)
"""Of a certificate made here: other machines' clocks may be behind."""

SIGNING_USAGES = {
    ExtendedKeyUsageOID.EMAIL_PROTECTION,
    x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36"),  # document signing
    x509.ObjectIdentifier("1.3.6.1.4.1.62558.2.1"),  # C2PA claim signing
}
SMALLEST_RSA_BITS = 2048
EC_ALGORITHMS = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
SUBJECT_PUBLIC_KEY = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
UNENCRYPTED = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


@dataclass(frozen=True, slots=True)
class Identity:
    """Checked: the key is the first certificate's, and C2PA takes both."""

    algorithm: str
    """es256, es384, es512, ps256 or ed25519."""

    chain: bytes
    """PEM, the signer's certificate first."""

    key: bytes | SigningCommand = field(repr=False)
    """PEM, PKCS#8, not encrypted; or who signs instead."""

    name: str
    """The certificate's subject."""

    not_before: datetime
    not_after: datetime
    is_development: bool = False
    """Made here: shown as untrusted wherever its root is not known."""

    def check_time(self, now: datetime) -> None:
        """Raises SettingsError where nobody would believe what is signed now."""
        if now < self.not_before:
            raise SettingsError(
                f"The C2PA certificate of {self.name} is valid from {self.not_before:%Y-%m-%d %H:%M} UTC on, and it is "
                f"{now:%Y-%m-%d %H:%M} UTC: set the clock, or wait."
            )
        if now > self.not_after:
            raise SettingsError(
                f"The C2PA certificate of {self.name} ended on {self.not_after:%Y-%m-%d %H:%M} UTC: renew it."
            )


def load_identity(chain_file: Path, key_file: Path, *, now: datetime) -> Identity:
    """From PEM files. Raises SettingsError, which says what is wrong with which."""
    return identity_of(chain_file, _read(key_file), key_name=str(key_file), now=now)


def identity_of(chain_file: Path, key: bytes, *, key_name: str, now: datetime) -> Identity:
    """key: PEM. key_name: for messages. Raises SettingsError."""
    identity = _identity(_read(chain_file), key, chain_file=chain_file, key_name=key_name)
    identity.check_time(now)
    return identity


def identity_by_command(chain_file: Path, command: str, *, now: datetime) -> Identity:
    """Whose key a program has; it is tried once. Raises SettingsError."""
    chain = _read(chain_file)
    certificates = _checked_chain(chain, chain_file)
    public = certificates[0].public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey):
        raise SettingsError(f"{chain_file}: C2PA signs with an EC, RSA or Ed25519 key.")
    algorithm = _algorithm(public, str(chain_file))
    try:
        signing = SigningCommand(command, certificates[0], algorithm=algorithm)
        signing.sign(b"wanserve")
    except (CommandFailed, ValueError) as e:
        raise SettingsError(f"WANSERVE_C2PA_SIGN_COMMAND can't sign: {e}.") from e
    identity = _described(certificates, chain, signing, algorithm)
    identity.check_time(now)
    return identity


def development_identity(folder: Path, *, now: datetime) -> Identity:
    """Made in the folder where there is none or it has ended, with its root beside it as root.pem.

    Raises SettingsError where the folder can't be used.
    """
    try:
        if not folder.exists():
            _make(folder, now=now)
        if now > _kept(folder).not_after:
            folder.replace(folder.with_name(f"{folder.name}-ended-{now:%Y%m%d%H%M%S}"))
            _make(folder, now=now)
    except OSError as e:
        raise SettingsError(f"{folder} can't be used ({e.strerror}): set another WANSERVE_DATA_DIR.") from e
    identity = _kept(folder)
    identity.check_time(now)
    return replace(identity, is_development=True)


def _kept(folder: Path) -> Identity:
    chain_file, key_file = folder / "chain.pem", folder / "key.pem"
    return _identity(_read(chain_file), _read(key_file), chain_file=chain_file, key_name=str(key_file))


def _identity(chain: bytes, key: bytes, *, chain_file: Path, key_name: str) -> Identity:
    certificates = _certificates(chain, chain_file)
    private = _private_key(key, key_name)
    if _public_bytes(certificates[0]) != private.public_key().public_bytes(*SUBJECT_PUBLIC_KEY):
        raise SettingsError(f"{key_name} is not the key of the first certificate in {chain_file}.")
    certificates = _checked_chain(chain, chain_file)
    algorithm = _algorithm(private.public_key(), key_name)
    return _described(certificates, chain, private.private_bytes(*UNENCRYPTED), algorithm)


def _checked_chain(chain: bytes, file: Path) -> Sequence[x509.Certificate]:
    certificates = _certificates(chain, file)
    _check_usage(certificates[0], file)
    _check_order(certificates, file)
    return certificates


def _described(
    certificates: Sequence[x509.Certificate], chain: bytes, key: bytes | SigningCommand, algorithm: str
) -> Identity:
    signer = certificates[0]
    return Identity(
        algorithm=algorithm,
        chain=chain,
        key=key,
        name=signer.subject.rfc4514_string(),
        not_before=signer.not_valid_before_utc,
        not_after=min(certificate.not_valid_after_utc for certificate in certificates),
    )


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise SettingsError(f"{file} can't be read ({e.strerror}): it must hold PEM.") from e


def _certificates(chain: bytes, file: Path) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain)
    except ValueError as e:
        raise SettingsError(f"{file} holds no certificates in PEM: the signer's comes first, then its issuers'.") from e


def _private_key(key: bytes, file: str) -> CertificateIssuerPrivateKeyTypes:
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except TypeError as e:
        raise SettingsError(f"{file} is encrypted: give the key without a password, readable by wanserve alone.") from e
    except ValueError as e:
        raise SettingsError(f"{file} holds no private key in PEM.") from e
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey):
        raise SettingsError(f"{file}: C2PA signs with an EC, RSA or Ed25519 key.")
    return private


def _algorithm(public: CertificatePublicKeyTypes, file: str) -> str:
    match public:
        case ed25519.Ed25519PublicKey():
            return "ed25519"
        case ec.EllipticCurvePublicKey(curve=curve) if curve.name in EC_ALGORITHMS:
            return EC_ALGORITHMS[curve.name]
        case rsa.RSAPublicKey(key_size=bits) if bits >= SMALLEST_RSA_BITS:
            return "ps256"
    raise SettingsError(
        f"{file}: C2PA signs with P-256, P-384, P-521, Ed25519 or RSA of at least {SMALLEST_RSA_BITS} bits."
    )


def _check_usage(signer: x509.Certificate, file: Path) -> None:
    """A certificate that may not sign would make files that every reader calls invalid."""
    try:
        usage = signer.extensions.get_extension_for_class(x509.KeyUsage).value
        extended = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound as e:
        raise SettingsError(f"{file}: the first certificate has no {e.oid._name}: it can't sign C2PA.") from e
    if not usage.digital_signature or not SIGNING_USAGES & set(extended):
        raise SettingsError(
            f"{file}: the first certificate is for another use. C2PA needs digitalSignature, and emailProtection, "
            "documentSigning or C2PA claim signing."
        )
    try:
        is_authority = signer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if is_authority:
        raise SettingsError(f"{file}: the first certificate is an authority's. Put the signer's own first.")


def _check_order(certificates: Sequence[x509.Certificate], file: Path) -> None:
    for certificate, issuer in itertools.pairwise(certificates):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature) as e:
            raise SettingsError(
                f"{file}: {certificate.subject.rfc4514_string()} was not issued by the certificate after it. "
                "Put the signer's first, then its issuer's, and so on."
            ) from e


def _public_bytes(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(*SUBJECT_PUBLIC_KEY)


def _make(folder: Path, *, now: datetime) -> None:
    """root.pem, key.pem and chain.pem. Two processes that start together agree: the first one's folder stays."""
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name, name = _name("wanserve development root"), _name("wanserve development signer")
    root = _authority(_draft(root_name, root_name, root_key, now=now, days=ROOT_DAYS), root_key)
    leaf = _signer(_draft(name, root_name, key, now=now, days=LEAF_DAYS), key, root_key)
    root_pem = root.public_bytes(serialization.Encoding.PEM)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as home:
        draft = Path(home) / folder.name
        draft.mkdir(mode=PRIVATE_FOLDER)
        (draft / "root.pem").write_bytes(root_pem)
        (draft / "chain.pem").write_bytes(leaf.public_bytes(serialization.Encoding.PEM) + root_pem)
        key_file = draft / "key.pem"
        key_file.touch(mode=PRIVATE_FILE)
        key_file.write_bytes(key.private_bytes(*UNENCRYPTED))
        try:
            draft.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _name(common_name: str) -> x509.Name:
    # Readers show the organisation.
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "wanserve (development)")
    return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _draft(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _authority(draft: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    return (
        draft.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _signer(
    draft: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, root_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    return (
        draft.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, hashes.SHA256())
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
