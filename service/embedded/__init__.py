"""Servers that wanserve brings along: Valkey and SeaweedFS from wheels, on loopback, under data_dir."""

from service.embedded.servers import EmbeddedServers, attach, borrowed_redis

__all__ = ["EmbeddedServers", "attach", "borrowed_redis"]
