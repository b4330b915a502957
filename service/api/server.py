"""A gateway process from start to end."""

import logging
from types import FrameType

import uvicorn

from service.api.app import create_app
from service.api.fanout import Fanout
from service.embedded import attach
from service.listen import listen
from service.settings import Settings

SHUTDOWN_SECONDS = 5


def run_gateway(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raises StartupError."""
    # Its start and end are told by us.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    app = create_app(attach(settings))
    config = uvicorn.Config(
        app,
        # service.logs has taken over `logging`; RequestTrace writes a better access log.
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    with listen(settings) as listener:
        GatewayServer(config, app.state.fanout).run(sockets=[listener])


class GatewayServer(uvicorn.Server):
    """Ends event streams when asked to stop: uvicorn would wait for them."""

    def __init__(self, config: uvicorn.Config, fanout: Fanout) -> None:
        super().__init__(config)
        self._fanout = fanout

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._fanout.close()
