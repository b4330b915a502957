"""All dashboards, in the order in which they are shown."""

from service.panels.engine import ENGINE
from service.panels.queue import QUEUE
from service.panels.safety import SAFETY
from service.panels.service import SERVICE

DASHBOARDS = (SERVICE, QUEUE, ENGINE, SAFETY)
