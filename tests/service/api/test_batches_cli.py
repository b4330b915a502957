"""`wanserve batches`, as someone types it, against a real gateway."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.cli import main
from service.jobs.card import ModelCard
from tests.service.api.conftest import FakeWorker

Run = Callable[..., tuple[int, str, str]]


@contextmanager
def working(worker: FakeWorker, card: ModelCard) -> Iterator[None]:
    """Jobs are finished as they come."""
    is_over = threading.Event()

    def work() -> None:
        while not is_over.wait(0.05):
            worker.report_alive(card.id)
            for claim in iter(worker.claim_if_any, None):
                worker.complete(claim)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.fixture
def run(
    client: httpx.Client,
    address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """run("get", id) gives exit code, standard output and standard error; files lie in tmp_path."""
    monkeypatch.setenv("WANSERVE_SERVER", address)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["batches", *arguments])
        said = capsys.readouterr()
        # Logs of the gateway in this process go where print() goes.
        return code, "\n".join(line for line in said.out.splitlines() if " [" not in line), said.err

    return run


def line(custom_id: str, **body: object) -> str:
    fields = {"prompt": f"a red circle {custom_id}", **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": "/v1/videos", "body": fields})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "films.jsonl"
    path.write_text("\n".join([line("one"), line("bad", num_frames=-1), line("two")]))
    return path


def test_one_command_makes_all_and_writes_what_came_of_it(
    run: Run, file: Path, worker: FakeWorker, card: ModelCard
) -> None:
    with working(worker, card):
        code, said, noted = run("create", str(file), "--metadata", "campaign=7", "-o", "done.jsonl")

    assert code == 0
    batch_id = said.strip()
    done = [json.loads(each) for each in Path("done.jsonl").read_text().splitlines()]
    assert [each["custom_id"] for each in done] == ["one", "two"]
    assert "done.jsonl" in noted

    code, said, _ = run("get", batch_id)
    assert "3: 2 completed, 1 failed" in said
    code, said, _ = run("get", "--json", batch_id)
    assert json.loads(said)["metadata"] == {"campaign": "7"}
    assert run("download", "--errors", batch_id)[0] == 0
    [refused] = Path(f"{batch_id}.errors.jsonl").read_text().splitlines()
    assert json.loads(refused)["custom_id"] == "bad"
    code, said, _ = run("list", "--limit", "1")
    assert said.splitlines()[1].split()[:5] == [batch_id, "completed", "3", "2", "1"]
    assert run("watch", batch_id)[0] == 0


def test_a_batch_can_be_stopped_and_watching_it_says_so(run: Run, file: Path) -> None:
    batch_id = run("create", str(file))[1].strip()

    code, said, _ = run("cancel", batch_id)
    assert code == 0
    assert batch_id in said

    code, _, complaint = run("watch", batch_id)
    assert code == 1
    assert f"{batch_id} is cancelled" in complaint


def test_a_file_without_requests_fails_with_the_servers_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")

    code, _, complaint = run("create", "empty.jsonl", "--wait")

    assert code == 1
    assert "holds no request" in complaint


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "none.jsonl"], "none.jsonl can't be read (No such file or directory)"),
        (["create", "."], "can't be read (Is a directory)"),
        (["create", "films.jsonl", "-o", "no/such/folder.jsonl"], "give a file in a folder that exists"),
        (["get", "batch_nothing"], "answered 404"),
        (["watch", "../files"], "answered 404"),
        (["download", "batch_nothing"], "answered 404"),
        (["cancel", "batch_nothing"], "answered 404"),
    ],
)
def test_what_can_not_be_done_is_one_clear_line(run: Run, file: Path, arguments: list[str], said: str) -> None:
    code, _, complaint = run(*arguments)

    assert code == 1
    assert said in complaint
    assert "Traceback" not in complaint
