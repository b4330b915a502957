"""`python -m worker`: one worker process."""

import argparse
import sys

from worker.cli import run_worker_command

sys.exit(run_worker_command(argparse.Namespace()))
