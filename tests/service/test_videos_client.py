"""What the command line makes of servers that behave oddly."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from service.cli import main
from service.errors import RemoteError, ServerUnreachable
from service.videos_client import VideosClient

Answer = tuple[int, bytes]


@contextmanager
def answering(*answers: Answer, missing_bytes: int = 0) -> Iterator[str]:
    """The address of a server that gives these answers in turn, the last one again and again, cut short."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body) + missing_bytes))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def video(status: str, **fields: object) -> Answer:
    return 200, json.dumps({"id": "video_1", "status": status, "created_at": 1, **fields}).encode()


def test_a_watched_server_may_be_away_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    away = (503, b'{"error": {"message": "Not now."}}')
    answers = (video("queued"), video("in_progress", progress=40), away, (502, b"<html>"), video("completed"))

    with answering(*answers) as server:
        assert main(["videos", "watch", "video_1", "--server", server]) == 0

    assert "completed" in capsys.readouterr().out


def test_a_server_of_the_openai_shape_alone_will_do(capsys: pytest.CaptureFixture[str]) -> None:
    failed = video("failed", object="video", error={"code": "x", "message": "It broke."})

    with answering(failed) as server:
        assert main(["videos", "get", "video_1", "--server", server]) == 0

    assert "x: It broke." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((200, b"<html>hello</html>"), RemoteError, "does not answer as a video service does"),
        ((200, b'{"id": "video_1"}'), RemoteError, "does not answer as a video service does"),
        ((404, b'{"error": {"message": "No such video."}}'), RemoteError, "answered 404: No such video."),
        ((404, b'{"error": "gone"}'), RemoteError, "answered 404: Not Found"),
        ((400, b"[]"), RemoteError, "answered 400: Bad Request"),
        ((301, b""), RemoteError, "answered 301"),
        ((503, b"<html>"), ServerUnreachable, "answered 503: Service Unavailable"),
    ],
)
def test_what_is_no_video_is_an_error_with_the_servers_words(
    answer: Answer, kind: type[RemoteError], said: str
) -> None:
    with (
        answering(answer) as server,
        VideosClient(server, api_key=None) as client,
        pytest.raises(RemoteError, match=said) as error,
    ):
        client.get("video_1")

    assert type(error.value) is kind


def test_a_download_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    with (
        answering((200, b"half"), missing_bytes=4) as server,
        VideosClient(server, api_key=None) as client,
        pytest.raises(ServerUnreachable),
    ):
        client.download("video_1", tmp_path / "new.mp4", variant="video", on_bytes=lambda _so_far, _total: None)

    assert list(tmp_path.iterdir()) == []
