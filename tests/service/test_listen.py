"""The gateway's socket."""

import asyncio
import socket
from collections.abc import Callable

from service.listen import listen
from service.settings import Settings


def test_the_second_write_of_an_answer_does_not_wait_for_the_first_ones_ack(free_port: Callable[[], int]) -> None:
    # asyncio turns Nagle off only where the socket names its protocol: every answer on a kept-open connection took
    # 40 ms before, head and body being two writes.
    settings = Settings(port=free_port())

    async def accepted_without_nagle() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def look(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            found.set_result(bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        with listen(settings) as listener:
            async with await asyncio.start_server(look, sock=listener):
                _reader, writer = await asyncio.open_connection(settings.host, settings.port)
                answer = await found
                writer.close()
                return answer

    assert asyncio.run(accepted_without_nagle())
