"""`wanserve videos`, as someone types it, against a real gateway."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from service.cli import main
from tests.service.api.conftest import FakeWorker

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(client: httpx.Client, address: str, tmp_path: Path) -> Run:
    """run("get", id) gives exit code, standard output and standard error; files lie in tmp_path."""

    def run(*arguments: str, **variables: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "service.cli", "videos", *arguments]
        environment = os.environ | {"WANSERVE_SERVER": address} | variables
        answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        return answer.returncode, answer.stdout, answer.stderr

    return run


def create(run: Run, prompt: str = "a red ball", *options: str) -> str:
    code, said, _ = run("create", prompt, *options)
    assert code == 0
    return said.strip()


def test_create_prints_the_id_and_sends_every_option(run: Run, client: httpx.Client) -> None:
    options = ["--size", "384x256", "--num-inference-steps", "7", "--seed", "3", "--priority", "bulk"]

    video_id = create(run, "a red ball", *options, "--metadata", "order=7=8", "--model", "embedded")

    video = client.get(f"/v1/videos/{video_id}").json()
    assert (video["size"], video["num_inference_steps"], video["seed"]) == ("384x256", 7, 3)
    assert (video["priority"], video["metadata"]) == ("bulk", {"order": "7=8"})


def test_create_says_what_was_snapped_and_strict_refuses_it(run: Run) -> None:
    _, said, noted = run("create", "a red ball", "--num-frames", "10")
    code, _, refused = run("create", "a red ball", "--num-frames", "10", "--strict")

    assert said.startswith("video_")
    assert noted == "num_frames: 10 was asked for, 9 is what is made.\n"
    assert code == 1
    assert "num_frames 10 can't be made; the nearest is 9." in refused


def test_get_shows_lines_or_the_servers_json(run: Run) -> None:
    video_id = create(run)

    _, lines, _ = run("get", video_id)
    _, text, _ = run("get", video_id, "--json")

    assert ["status", "queued"] in [line.split() for line in lines.splitlines()]
    assert json.loads(text)["num_frames"] == 17


def test_list_goes_page_by_page(run: Run) -> None:
    ids = [create(run, f"ball {number}") for number in range(3)]

    _, first, more = run("list", "--limit", "2")
    _, second, none = run("list", "--limit", "2", "--after", ids[1])

    assert [line.split()[0] for line in first.splitlines()[1:]] == [ids[2], ids[1]]
    assert more == f"There are more: --after {ids[1]}\n"
    assert second.splitlines()[1].endswith("ball 0")
    assert none == ""


def test_download_writes_each_variant(run: Run, worker: FakeWorker, tmp_path: Path) -> None:
    video_id = create(run)
    worker.finish(b"the file")

    assert run("download", video_id)[0] == 0
    assert run("download", video_id, "--variant", "thumbnail", "-o", "small.webp")[0] == 0

    assert (tmp_path / f"{video_id}.mp4").read_bytes() == b"the file"
    assert (tmp_path / "small.webp").read_bytes() == b"picture"
    assert not list(tmp_path.glob(".*.part"))


def test_a_file_that_is_not_there_yet_leaves_none(run: Run, tmp_path: Path) -> None:
    code, _, said = run("download", create(run), "-o", str(tmp_path / "new.mp4"))

    assert code == 1
    assert "its file is not there yet" in said
    assert not (tmp_path / "new.mp4").exists()


def test_watch_follows_a_video_to_its_end(run: Run, worker: FakeWorker) -> None:
    video_id = create(run)
    answers: list[tuple[int, str, str]] = []
    watching = threading.Thread(target=lambda: answers.append(run("watch", video_id)))
    watching.start()
    worker.finish()
    watching.join(timeout=60)

    [(code, shown, bar)] = answers
    assert code == 0
    assert ["status", "completed"] in [line.split() for line in shown.splitlines()]
    assert "100%" in bar


def test_create_waits_and_writes_the_file(
    run: Run, client: httpx.Client, worker: FakeWorker, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    file = tmp_path / "ball.mp4"
    answers: list[tuple[int, str, str]] = []
    creating = threading.Thread(target=lambda: answers.append(run("create", "a red ball", "-o", str(file))))
    creating.start()
    wait_until(lambda: client.get("/v1/videos").json()["data"])
    worker.finish(b"the file")
    creating.join(timeout=60)

    assert answers[0][0] == 0
    assert file.read_bytes() == b"the file"


def test_watching_a_video_that_fails_says_why(run: Run, worker: FakeWorker) -> None:
    video_id = create(run)
    worker.fail("out_of_memory", "Too little memory.")

    code, _, said = run("watch", video_id)

    assert code == 1
    assert said.endswith(f"wanserve: {video_id} failed: Too little memory. (out_of_memory)\n")


def test_delete_removes_several(run: Run, client: httpx.Client) -> None:
    ids = [create(run, f"ball {number}") for number in range(2)]

    assert run("delete", *ids)[1] == "".join(f"{video_id} is deleted.\n" for video_id in ids)
    assert client.get("/v1/videos").json()["data"] == []


def test_a_key_is_sent_and_a_wrong_one_is_named(run: Run) -> None:
    code, _, said = run("list", WANSERVE_API_KEY="ws_wrong")

    assert code == 1
    assert "answered 401:" in said


def test_a_prompt_can_not_steer_the_terminal(run: Run) -> None:
    video_id = create(run, "a red\x1b[31m ball")

    assert "\x1b" not in run("list")[1]
    assert "\x1b" not in run("get", video_id)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("get", "video_nothing"), "answered 404: There is no video video_nothing."),
        (("get", "../models"), "answered 404"),
        (("create", ""), "prompt is empty"),
        (("create", "a", "--quality", "best"), "known are: draft"),
        (("create", "a", "-o", "/nowhere/x.mp4"), "give a file in a folder that exists"),
        (("list", "--server", "http://127.0.0.1:1"), "http://127.0.0.1:1 does not answer"),
        (("list", "--server", "http://localhost:x"), "is no address of a server"),
        (("list", "--server", "localhost"), "WANSERVE_SERVER"),
    ],
)
def test_what_goes_wrong_is_one_line(run: Run, arguments: tuple[str, ...], said: str) -> None:
    code, _, complaint = run(*arguments)

    assert code == 1
    assert complaint.startswith("wanserve: ")
    assert complaint.count("\n") == 1
    assert said in complaint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--limit", "0"), "no number from 1 to 100"),
        (("create", "a", "--metadata", "order"), "no NAME=VALUE"),
        (("download", "x", "--variant", "sound"), "video, thumbnail, spritesheet"),
    ],
)
def test_a_wrong_option_says_what_is_legal(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["videos", *arguments])

    assert ended.value.code == 2
    assert said in capsys.readouterr().err.replace("'", "")
