"""The short form of `make chaos`: every kind of fault once, on the real gateway, workers, Redis and S3."""

from pathlib import Path

from tests.chaos.cluster import Cluster
from tests.chaos.faults import SHORT
from tests.chaos.judge import judge, num_repeated_steps, num_unsaved_steps
from tests.chaos.storm import Storm


def test_nothing_acknowledged_is_lost_doubled_or_left_lying_in_a_storm(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        evidence = Storm(cluster, SHORT, seed=1).run()
        wrong = judge(evidence)
        assert not wrong, "\n".join([*wrong, cluster.logs()])
    assert num_repeated_steps(evidence.journal) <= num_unsaved_steps(evidence.journal)
