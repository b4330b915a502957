"""docs/metrics.md is what service/metrics.py says."""

from deploy.metrics_page import PAGE, page


def test_page_has_every_metric_and_panel_as_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m deploy.metrics_page"
