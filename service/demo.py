"""`make demo`: start everything, make one video over HTTP, say where it is. Leaves everything running."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from service.children import die_with
from service.errors import ServiceError, StartupError
from service.listen import address_of, listen
from service.settings import Settings

DEFAULT_PROMPT = "a red ball bouncing on a blue background"
START_SECONDS = 300
VIDEO_SECONDS = 1800
STOP_SECONDS = 120
LOOK_SECONDS = 0.25
LAST_LINES = 15
"""Of the log, shown when the services do not start."""


class DemoFailed(Exception):
    """The message says what happened and what to do."""


def main() -> int:
    """Run the demo; the exit code."""
    arguments = _parser().parse_args()
    try:
        settings = Settings.load()
        if arguments.port is not None:
            settings = settings.with_changes(port=arguments.port)
        with _running(settings) as services:
            _demonstrate(settings, arguments.prompt or DEFAULT_PROMPT, arguments.folder)
            if services is not None and not arguments.exit:
                _stay(services)
    except (DemoFailed, ServiceError) as e:
        print(f"demo: {e}", file=sys.stderr)
        return 1
    except httpx.HTTPError as e:
        print(f"demo: the gateway stopped answering ({e}).", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--prompt", help=f"what to draw (default: {DEFAULT_PROMPT!r})")
    parser.add_argument("--port", type=int, help="where the gateway listens (WANSERVE_PORT, 8000)")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the file goes (default: ./demo)")
    parser.add_argument("--exit", action="store_true", help="stop everything at the end")
    return parser


@contextmanager
def _running(settings: Settings) -> Iterator[subprocess.Popen[bytes] | None]:
    """The services, stopped at the end; None when they ran before, and then go on."""
    if _is_wanserve(address_of(settings)):
        print(f"wanserve runs already at {address_of(settings)}; it is used as it is.")
        yield None
        return
    listen(settings).close()
    log = settings.data_dir / "demo.log"
    services = _start(settings, log)
    try:
        _wait_until_ready(settings, services, log)
        yield services
    finally:
        services.send_signal(signal.SIGTERM)
        services.wait(timeout=STOP_SECONDS)


def _is_wanserve(address: str) -> bool:
    try:
        answer = httpx.get(f"{address}/liveness", timeout=2, trust_env=False)
        return answer.status_code == 200 and answer.json().get("service") == "wanserve"
    except (httpx.HTTPError, ValueError):
        return False


def _start(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            command = [sys.executable, "-m", "service.cli", "up"]
            environment = settings.child_environment()
            # A session of its own: Ctrl-C reaches us, and we stop it in order. One thread: preexec_fn is safe.
            return subprocess.Popen(
                command,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509
            )
    except OSError as e:
        raise StartupError(f"{log} can't be written ({e.strerror}): set another WANSERVE_DATA_DIR.") from e


def _wait_until_ready(settings: Settings, services: subprocess.Popen[bytes], log: Path) -> None:
    print(f"Starting Redis, object store, gateway and worker (log: {log}) ", end="", flush=True)
    started = time.monotonic()
    while not _is_healthy(address_of(settings)):
        if services.poll() is not None or time.monotonic() > started + START_SECONDS:
            print()
            raise DemoFailed(f"the services did not start. The end of {log}:\n{_last_lines(log)}")
        print(".", end="", flush=True)
        time.sleep(1)
    print(f" ready after {time.monotonic() - started:.1f} s")


def _is_healthy(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LAST_LINES:])


def _demonstrate(settings: Settings, prompt: str, folder: Path) -> None:
    """One video from prompt to file, over HTTP like any client."""
    address = address_of(settings)
    with httpx.Client(base_url=address, timeout=30, trust_env=False) as client:
        print(f"Prompt: {prompt}")
        video = _checked(client.post("/v1/videos", json={"prompt": prompt}))
        video = _wait_for(client, video)
        file = _download(client, video, folder)
    _report(address, video, file)


def _wait_for(client: httpx.Client, video: dict[str, Any]) -> dict[str, Any]:
    deadline = time.monotonic() + VIDEO_SECONDS
    with tqdm(total=100, bar_format="{desc:11} |{bar:40}| {n:3.0f}%  {elapsed}", disable=None) as bar:
        while video["status"] in ("queued", "in_progress"):
            if (video["review"] or {}).get("state") == "pending":
                raise DemoFailed(
                    f"the prompt filter holds {video['id']} for a reviewer. List what is held with "
                    f"`curl {client.base_url.join('/v1/reviews')}` and POST to …/ID/approve, or try another prompt."
                )
            if time.monotonic() > deadline:
                raise DemoFailed(f"{video['id']} is still {video['status']} after {VIDEO_SECONDS // 60} minutes.")
            bar.set_description_str(video["stage"] or video["status"])
            bar.update(video["progress"] - bar.n)
            time.sleep(LOOK_SECONDS)
            video = _checked(client.get(f"/v1/videos/{video['id']}"))
        bar.set_description_str(video["status"])
        bar.update(video["progress"] - bar.n)
    if video["status"] == "failed":
        raise DemoFailed(f"the video failed: {video['error']['message']}")
    return video


def _download(client: httpx.Client, video: dict[str, Any], folder: Path) -> Path:
    file = folder / f"{_file_stem(video['prompt'])}.mp4"
    answer = client.get(f"/v1/videos/{video['id']}/content")
    if answer.status_code != 200:
        _checked(answer)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".part")
        draft.write_bytes(answer.content)
        draft.replace(file)
    except OSError as e:
        raise DemoFailed(f"{file} can't be written ({e.strerror}).") from e
    return file


def _file_stem(prompt: str) -> str:
    """Letters of any script and digits, joined by dashes."""
    return "-".join(re.findall(r"\w+", prompt.lower()))[:60].strip("-") or "video"


def _checked(answer: httpx.Response) -> dict[str, Any]:
    """The reply's JSON. Raises DemoFailed with the server's own words."""
    content: dict[str, Any] = answer.json()
    if answer.status_code != 200:
        raise DemoFailed(f"{answer.request.url.path} answered {answer.status_code}: {content['detail']}")
    return content


def _report(address: str, video: dict[str, Any], file: Path) -> None:
    print(f"File:   {file} ({video['size']}, {video['num_frames']} frames, seed {video['seed']})")
    print(f"Page:   {address}/#{video['id']}")
    print(f"Link:   {video['output']['url']}")
    if video["cached"]:
        print("Stages: none, an identical request was made before and its file was taken")
        return
    stages = "  ".join(f"{name} {seconds:.2f}" for name, seconds in video["stage_durations"].items())
    print(f"Stages: {stages}  (seconds)")


def _stay(services: subprocess.Popen[bytes]) -> None:
    print("Everything stays up until Ctrl-C.")
    try:
        services.wait()
    except KeyboardInterrupt:
        print("\nStopping.")
        return
    raise DemoFailed("the services ended by themselves; see the log.")


if __name__ == "__main__":
    # A script that stops us means our services too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
