"""Small pieces of arithmetic on a CPU, a thread each: two threads in one of them would mostly wait for each other."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Result = TypeVar("Result")


def side_by_side(actions: Sequence[Callable[[], Result]]) -> list[Future[Result]]:
    """All of them, done when it returns; what one raises is in its future alone.

    PyTorch's threads are shared out among them, which changes no bit of what they compute.
    """
    threads = torch.get_num_threads()
    places = max(1, min(len(actions), threads))

    def run(action: Callable[[], Result]) -> Result:
        # Of this thread alone.
        torch.set_num_threads(threads // places)
        return action()

    with ThreadPoolExecutor(places, thread_name_prefix="side-by-side") as pool:
        return [pool.submit(run, action) for action in actions]
