"""Memory that grows is seen."""

import subprocess
import sys

import pytest

from bench.memory import flat_figures

CHILD = """
import sys
kept = []
for line in sys.stdin:
    kept.append(b"x" * int(line))
    print(flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("num_bytes", "verdict"), [(0, "ok"), (10**6, "short")])
def test_a_process_that_keeps_what_it_was_given_is_not_flat(num_bytes: int, verdict: str) -> None:
    command = [sys.executable, "-S", "-c", CHILD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def turn() -> None:
            process.stdin.write(b"%d\n" % num_bytes)
            process.stdin.flush()
            process.stdout.readline()

        *_, ratio = flat_figures("child", process, turn)
        process.stdin.close()

    assert ratio.line.endswith(verdict)
