"""What commands have in common that talk to a server: its address, a key, progress bars, words on a terminal."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from service.errors import InvalidRequest, RemoteError, ServerUnreachable
from service.listen import address_of
from service.settings import Settings

if TYPE_CHECKING:
    from service.server_client import OnBytes

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
    Run = Callable[[argparse.Namespace], int]

WHICH_SERVER = (
    "The server is --server, else WANSERVE_SERVER, else the gateway of this machine; an API key comes from "
    "WANSERVE_API_KEY."
)
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
"""For so long a watched server may be away: a gateway that starts anew loses nothing."""

MAX_PAGE = 100
Seen = TypeVar("Seen")


def add_action(actions: "Commands", name: str, explanation: str, run: "Run") -> argparse.ArgumentParser:
    parser = actions.add_parser(name, help=explanation, description=f"{explanation.capitalize()}.")
    parser.add_argument("--server", help="http(s)://host:port (WANSERVE_SERVER)", metavar="URL")
    parser.set_defaults(run=run)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print what the server sends")


def server_of(arguments: argparse.Namespace) -> tuple[str, str | None]:
    """The server's address and the key for it."""
    settings = Settings.load()
    if arguments.server is not None:
        settings = settings.with_changes(server=arguments.server)
    api_key = None if settings.api_key is None else settings.api_key.get_secret_value()
    return settings.server or address_of(settings), api_key


def patiently(look: Callable[[], Seen]) -> Seen:
    """Waits a while for a server that went away. Raises ServerUnreachable."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return look()
        except ServerUnreachable:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(LOOK_SECONDS)


@contextmanager
def bytes_bar(file: Path) -> "Iterator[OnBytes]":
    """While the file is fetched. Raises RemoteError where it can't be written."""
    from tqdm import tqdm

    with tqdm(unit="B", unit_scale=True, leave=False) as bar:

        def count(num_bytes: int, total: int | None) -> None:
            bar.total = total
            bar.update(num_bytes - bar.n)

        try:
            yield count
        except OSError as e:
            raise RemoteError(f"{file} can't be written ({e.strerror}).") from e


def check_output(file: Path) -> None:
    """Before minutes are spent on what can't be kept. Raises InvalidRequest."""
    if file.is_dir() or not file.parent.is_dir():
        raise InvalidRequest(f"{file}: give a file in a folder that exists.", param="output")


def line(text: str) -> str:
    """A text of someone else's on one line, without what would steer the terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def pair(text: str) -> tuple[str, str]:
    """Of NAME=VALUE. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f'"{text}" is no NAME=VALUE')
    return name, value


def page_size(text: str) -> int:
    """Raises ArgumentTypeError."""
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PAGE:
        raise argparse.ArgumentTypeError(f'"{text}" is no number from 1 to {MAX_PAGE}')
    return int(text)
