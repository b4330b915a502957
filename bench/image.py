"""How large is the gateway's image, and does it start? `python -m bench.image` installs what its Dockerfile installs.

Made in a temporary folder, as the stage gateway-environment makes it; its gateway then answers /ready.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from bench.report import Figure, report
from service.embedded import EmbeddedServers
from service.embedded.process import free_ports
from service.settings import Settings

ROOT = Path(__file__).parent.parent
ABSENT = ("torch", "scipy", "cv2")
READY_SECONDS = 120.0


def main() -> int:
    return report(figures())


def figures() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder) / "environment"
        install(environment)
        [packages] = environment.glob("lib/python*/site-packages")
        yield Figure("gateway image: site-packages", megabytes(packages), "MB", 450)
        found = [name for name in ABSENT if (packages / name).exists()]
        yield Figure(f"gateway image: of {', '.join(ABSENT)}", len(found), goal=0)
        yield Figure("gateway image: seconds to /ready", seconds_to_ready(environment, Path(folder)), "s")


def install(environment: Path) -> None:
    """By the very options of the Dockerfile."""
    [options] = re.findall(r'install (--no-cache-dir .*"\.\[gateway\]")', (ROOT / "Dockerfile").read_text())
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    words = [word.strip('"') for word in options.split()]
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *words]
    subprocess.run(pip, check=True, cwd=ROOT, stderr=subprocess.DEVNULL)


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def seconds_to_ready(environment: Path, folder: Path) -> float:
    """With servers of its own, from a folder that it does not write to."""
    data = Settings(data_dir=folder / "data", port=free_ports(["gateway"])["gateway"])
    with EmbeddedServers.start(data) as servers:
        variables = {**servers.settings.child_environment(), "PYTHONPYCACHEPREFIX": str(folder / "pycache")}
        variables.pop("PYTHONPATH", None)
        started = time.perf_counter()
        command = [str(environment / "bin" / "wanserve"), "gateway"]
        gateway = subprocess.Popen(command, env=variables, cwd="/", stdout=subprocess.DEVNULL)
        try:
            wait_until_ready(f"http://127.0.0.1:{data.port}/ready", gateway)
            return time.perf_counter() - started
        finally:
            gateway.terminate()
            gateway.wait()


def wait_until_ready(url: str, gateway: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if gateway.poll() is not None:
            raise RuntimeError(f"The gateway ended with {gateway.returncode}.")
        try:
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"The gateway was not ready within {READY_SECONDS:g} s.")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    raise SystemExit(main())
