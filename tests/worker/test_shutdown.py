import math
import signal
import subprocess
import sys
import time

from worker.shutdown import Shutdown


def test_grace_starts_with_the_first_request() -> None:
    now = 0.0
    shutdown = Shutdown(grace_seconds=8, clock=lambda: now)
    assert shutdown.seconds_left == math.inf
    shutdown.request()
    now = 3.0
    shutdown.request()
    assert shutdown.seconds_left == 5.0


def test_process_that_never_asks_is_ended_after_its_grace() -> None:
    stuck = (
        "import time\n"
        "from worker.shutdown import Shutdown\n"
        "Shutdown(grace_seconds=0.1).install()\n"
        "print('installed', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", stuck], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == -signal.SIGALRM


def test_sleep_ends_early_once_a_stop_is_requested() -> None:
    shutdown = Shutdown()
    shutdown.request()
    started = time.monotonic()
    shutdown.sleep(30)
    assert time.monotonic() - started < 5
