"""docs/settings.md is what service/settings.py says."""

from deploy.settings_page import PAGE, complaint, explanations, page
from service.environment import variable_of
from service.settings import Settings


def columns(text: str) -> list[list[str]]:
    """Without the last one, whose words are pydantic's own and change with it."""
    return [line.split(" | ")[:4] for line in text.splitlines() if line.startswith("| `")]


def test_page_has_every_setting_as_it_is() -> None:
    assert columns(PAGE.read_text(encoding="utf-8")) == columns(page()), "run python -m deploy.settings_page"


def test_every_setting_is_explained() -> None:
    assert set(Settings.model_fields) == set(explanations())


def test_what_is_wrong_is_said_with_its_variable() -> None:
    for name in ("port", "dtype", "redis_url", "heartbeat_seconds"):
        variable = variable_of(Settings, name)
        assert variable in complaint(variable)
