"""`make chaos`: the full storm and the trials, a line a figure. Exit code 1 when something must not be.

SEED=… changes what happens when; CHECK=1 makes a short figure an error too.
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

from bench.report import report
from tests.chaos.cluster import Cluster
from tests.chaos.faults import FULL
from tests.chaos.figures import storm_figures, trial_figures
from tests.chaos.judge import judge
from tests.chaos.storm import Storm


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="wanserve-chaos-"))
    with Cluster(folder / "storm") as cluster:
        evidence = Storm(cluster, FULL, seed=int(os.environ.get("SEED", "1"))).run()
    code = report(storm_figures(evidence))
    wrong = judge(evidence)
    if wrong:
        print(*wrong, f"Logs and journals: {folder}", sep="\n")
        return 1
    with Cluster(folder / "trials") as cluster:
        code |= report(trial_figures(cluster))
    shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
