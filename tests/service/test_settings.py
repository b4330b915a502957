"""Settings: what is read, and what refuses to start."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from service.errors import SettingsError
from service.settings import Settings


def test_defaults_need_no_environment() -> None:
    settings = Settings.load()

    assert (settings.host, settings.port, settings.redis_url, settings.uses_s3) == ("127.0.0.1", 8000, None, False)
    assert (settings.lease_seconds, settings.heartbeat_seconds, settings.retention_seconds) == (45, 10, 604_800)


def test_variables_are_read_with_and_without_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANSERVE_PORT", "9000")
    monkeypatch.setenv("REDIS_URL", "redis://example:6379/0")
    monkeypatch.setenv("S3_ENDPOINT", "https://s3.example.com/")
    monkeypatch.setenv("S3_BUCKET", "")

    settings = Settings.load()

    assert (settings.port, settings.redis_url) == (9000, "redis://example:6379/0")
    assert (settings.s3_endpoint, settings.bucket, settings.uses_s3) == ("https://s3.example.com", "wanserve", True)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("WANSERVE_PORTT", "9000", "Unknown setting WANSERVE_PORTT (did you mean WANSERVE_PORT?). Known are:"),
        ("WANSERVE_REDIS_URL", "redis://x", "Unknown setting WANSERVE_REDIS_URL (did you mean REDIS_URL?). Known"),
        ("WANSERVE_LEASE_SECOND", "9", "WANSERVE_LEASE_SECOND (did you mean WANSERVE_LEASE_SECONDS?). Known"),
        ("WANSERVE_ZZZ", "9", "Unknown setting WANSERVE_ZZZ. Known are:"),
        ("WANSERVE_PORT", "http", "WANSERVE_PORT"),
        ("WANSERVE_PORT", "0", "greater than or equal to 1"),
        ("WANSERVE_PORT", "70000", "less than or equal to 65535"),
        ("WANSERVE_DTYPE", "fp8", "'auto', 'float32', 'bfloat16' or 'float16'"),
        ("WANSERVE_DEVICE", "tpu", "WANSERVE_DEVICE"),
        ("WANSERVE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("WANSERVE_LEASE_SECONDS", "12", "at least two heartbeats"),
        ("WANSERVE_MODEL_ALIASES", "sora-2,,x", "WANSERVE_MODEL_ALIASES"),
        ("WANSERVE_MAX_ATTEMPTS", "0", "WANSERVE_MAX_ATTEMPTS"),
        ("WANSERVE_LINK_SECONDS", "7200", "less than or equal to 3600"),
        ("WANSERVE_LINK_SECRET", "short", "at least 16 characters"),
        (
            "WANSERVE_WATERMARK_OLD_SECRETS",
            "0123456789abcdef, short",
            "WANSERVE_WATERMARK_OLD_SECRETS holds a secret of less than 16 characters",
        ),
        ("WANSERVE_KEY_PEPPER", "short", "WANSERVE_KEY_PEPPER is too short: give at least 16 characters"),
        ("WANSERVE_SERVER", "example.com:8000", "WANSERVE_SERVER"),
        ("WANSERVE_API_KEY", "ws_ä", "WANSERVE_API_KEY holds characters that no key has"),
        ("WANSERVE_PUBLIC_URL", "example.com", "WANSERVE_PUBLIC_URL"),
        ("WANSERVE_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.0/33", "WANSERVE_WEBHOOK_ALLOWED_NETWORKS"),
        ("WANSERVE_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8", "has host bits set"),
        ("WANSERVE_WEBHOOK_ALLOWED_NETWORKS", "localhost", "WANSERVE_WEBHOOK_ALLOWED_NETWORKS"),
        ("WANSERVE_WEBHOOK_ALLOWED_PORTS", "https", "WANSERVE_WEBHOOK_ALLOWED_PORTS"),
        ("WANSERVE_WEBHOOK_ALLOWED_PORTS", "9000-8000", "the lower one first"),
        ("WANSERVE_WEBHOOK_ALLOWED_PORTS", "443,70000", "between 1 and 65535"),
        ("WANSERVE_WEBHOOK_TIMEOUT_SECONDS", "600", "less than or equal to 60"),
        ("REDIS_URL", "http://x", "REDIS_URL"),
        ("S3_ENDPOINT", "s3.example.com", "S3_ENDPOINT"),
        ("S3_BUCKET", "Ab", "S3_BUCKET"),
        ("S3_ACCESS_KEY", "only", "S3_ACCESS_KEY and S3_SECRET_KEY together"),
        ("CDN_BASE_URL", "cdn", "CDN_BASE_URL"),
    ],
)
def test_a_wrong_variable_refuses_to_start_and_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(SettingsError) as error:
        Settings.load()

    assert said in error.value.message


def test_a_secret_is_not_repeated_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis:/user:hunter2@host")

    with pytest.raises(SettingsError) as error:
        Settings.load()

    assert "hunter2" not in error.value.message


def test_a_child_reads_equal_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, port=9001, lease_seconds=20.0).with_changes(
        redis_url="redis://:pw@127.0.0.1:1/0", s3_access_key="a", s3_secret_key="b", worker_metrics_port=9100
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)

    assert Settings.load() == settings


def test_the_link_secret_is_made_once_and_is_private(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "new")

    first, second = settings.link_key(), settings.link_key()

    assert first == second
    assert len(first) == 64
    assert (tmp_path / "new" / "link.secret").stat().st_mode & 0o777 == 0o600


def test_the_pepper_is_another_secret(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)

    assert settings.pepper() == settings.pepper() != settings.link_key()
    assert settings.with_changes(key_pepper="sixteen letters!").pepper() == b"sixteen letters!"


def test_an_unwritable_data_dir_is_a_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")

    with pytest.raises(SettingsError, match="set WANSERVE_LINK_SECRET or another WANSERVE_DATA_DIR"):
        Settings(data_dir=blocker / "data").link_key()


def test_aliases_are_names_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.load().more_aliases == ()
    monkeypatch.setenv("WANSERVE_MODEL_ALIASES", "sora-2, my/model.v1 ")

    assert Settings.load().more_aliases == ("sora-2", "my/model.v1")


def test_webhook_networks_and_ports_are_lists_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANSERVE_WEBHOOK_ALLOWED_NETWORKS", "10.1.0.0/16, fd00::/8")
    monkeypatch.setenv("WANSERVE_WEBHOOK_ALLOWED_PORTS", "443, 8000-8999")

    settings = Settings.load()

    assert settings.webhook_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))
    assert settings.webhook_ports == (range(443, 444), range(8000, 9000))


@pytest.mark.parametrize("variable", ["WANSERVE_KEY_PEPPER", "S3_SECRET_KEY", "WANSERVE_WATERMARK_SECRET"])
def test_secret_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    (tmp_path / "secret").write_text("a secret of 20 chars\n")
    monkeypatch.setenv("S3_ACCESS_KEY", "a")
    monkeypatch.setenv("S3_SECRET_KEY", "b")
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "secret"))

    settings = Settings.load()

    environment = settings.child_environment()
    assert environment[variable] == "a secret of 20 chars"
    # Or a child would find both.
    assert f"{variable}_FILE" not in environment


def test_address_with_a_password_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "url").write_text("redis://:word@redis:6379/0")
    monkeypatch.setenv("REDIS_URL_FILE", str(tmp_path / "url"))
    assert Settings.load().redis_url == "redis://:word@redis:6379/0"


@pytest.mark.parametrize(
    ("content", "also", "says"),
    [(None, None, "can't be read"), ("", None, "is empty"), ("\n", None, "is empty"), ("x" * 20, "y" * 20, "not both")],
)
def test_file_that_gives_no_secret_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, also: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "secret").write_text(content)
    monkeypatch.setenv("WANSERVE_KEY_PEPPER_FILE", str(tmp_path / "secret"))
    if also is not None:
        monkeypatch.setenv("WANSERVE_KEY_PEPPER", also)
    with pytest.raises(SettingsError, match=says):
        Settings.load()


def test_what_kubernetes_injects_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("WANSERVE_GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("WANSERVE_GATEWAY_SERVICE_PORT", "8000"),
        ("WANSERVE_GATEWAY_SERVICE_PORT_HTTP", "8000"),
        ("WANSERVE_GATEWAY_PORT", "tcp://10.0.0.1:8000"),
        ("WANSERVE_GATEWAY_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("WANSERVE_GATEWAY_PORT_8000_TCP_ADDR", "10.0.0.1"),
    ):
        monkeypatch.setenv(name, value)
    Settings.load()


def test_a_misspelt_port_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANSERVE_WORKER_METRIC_PORT", "9000")
    with pytest.raises(SettingsError, match="did you mean WANSERVE_WORKER_METRICS_PORT"):
        Settings.load()
