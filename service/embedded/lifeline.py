"""Becomes another program that dies with its parent. Run as a script; imports nothing of ours, so that it starts fast.

lifeline.py PARENT_PID PROGRAM ARGUMENT…

On Linux the kernel sends SIGTERM when the thread that started us ends, even by SIGKILL. Elsewhere the program outlives
a killed parent until the next start finds it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""From linux/prctl.h; survives exec."""


def main(parent: int, command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died before we asked to be told.
            return
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
