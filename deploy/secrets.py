"""Makes the secrets that docker-compose.yml and deploy/k8s want, a file each; what is there stays: `make secrets`."""

import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

PLAIN = ("key_pepper", "link_secret", "provenance_secret", "watermark_secret", "redis_password", "s3_secret_key")


def make_secrets(folder: Path, *, redis_host: str = "redis") -> list[str]:
    """Names of the files that were made."""
    folder.mkdir(mode=0o700, exist_ok=True)
    made = [name for name in PLAIN if _make(folder / name, lambda: secrets.token_hex(24))]
    made += [name for name in ("grafana_password",) if _make(folder / name, lambda: secrets.token_urlsafe(12))]
    others: dict[str, Callable[[], str]] = {
        "s3_access_key": lambda: "wanserve",
        "redis_url": lambda: f"redis://:{_read(folder, 'redis_password')}@{redis_host}:6379/0",
        "s3_identities": lambda: _identities(_read(folder, "s3_access_key"), _read(folder, "s3_secret_key")),
        # An API key with the scope admin goes here once the gateway runs.
        "metrics_key": lambda: "",
    }
    return made + [name for name, content in others.items() if _make(folder / name, content)]


def _make(file: Path, content: Callable[[], str]) -> bool:
    if file.exists():
        return False
    file.write_text(content())
    # Containers read it as users of their own; on the host nobody else comes into the folder.
    file.chmod(0o444)
    return True


def _read(folder: Path, name: str) -> str:
    return (folder / name).read_text().strip()


def _identities(access_key: str, secret_key: str) -> str:
    """SeaweedFS' -s3.config."""
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": "wanserve", "credentials": credentials, "actions": actions}]})


if __name__ == "__main__":
    chosen = Path(sys.argv[1] if len(sys.argv) > 1 else "secrets")
    print(f"{chosen}: made {', '.join(make_secrets(chosen)) or 'nothing, all are there'}.")
