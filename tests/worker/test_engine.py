"""The engine as the settings want it."""

import torch

from service.settings import Settings
from worker.engine import load_engine


def test_arithmetic_takes_as_many_threads_as_the_setting_says():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        load_engine(Settings(cpu_threads=1))
        assert torch.get_num_threads() == 1
        load_engine(Settings())
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
