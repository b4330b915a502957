"""Tenants, their keys, and how the holder of one is told."""

import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from service.callers import FRESH_SECONDS, Callers
from service.embedded import EmbeddedServers
from service.errors import (
    Conflict,
    InvalidApiKey,
    InvalidRequest,
    KeyNotFound,
    SettingsError,
    TenantNotFound,
    TooManyRequests,
)
from service.jobs.connection import connect
from service.keys import Keys
from service.rates import Rates
from service.tenants import Tenant, Tenants

PEPPER = b"pepper of these tests"


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def tenants(redis: Redis) -> Tenants:
    return Tenants(redis)


@pytest.fixture
def keys(redis: Redis, tenants: Tenants) -> Keys:
    """Keys, and a tenant acme to make some for."""
    tenants.create(Tenant(name="acme", weight=2.5, max_queued=7))
    return Keys(redis, pepper=PEPPER)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def callers(redis: Redis, clock: Clock) -> Callers:
    return Callers(redis, pepper=PEPPER, clock=clock)


@pytest.fixture
def sent(redis: Redis, servers: EmbeddedServers) -> Iterator[Callable[[], tuple[str, int]]]:
    """sent() gives the last command that `redis` sent, and how many ran for it: others share the server."""
    assert servers.settings.redis_url is not None
    with connect(servers.settings.redis_url) as observer:
        client_id = redis.client_id()

        def look() -> tuple[str, int]:
            (client,) = observer.client_list(client_id=[str(client_id)])
            return client["cmd"], int(client["tot-cmds"])

        yield look


def id_of(text: str) -> str:
    return text.split("_")[1]


def test_tenants_are_kept_and_listed_by_name(tenants: Tenants) -> None:
    tenants.create(Tenant(name="zoo"))
    tenants.create(Tenant(name="acme", weight=2.0, max_queued=3))

    assert tenants.get("acme") == Tenant(name="acme", weight=2.0, max_queued=3)
    assert [tenant.name for tenant in tenants.list()] == ["acme", "zoo"]


def test_a_name_is_given_once_and_an_update_needs_one(tenants: Tenants) -> None:
    tenants.create(Tenant(name="acme"))

    with pytest.raises(Conflict, match="acme exists already"):
        tenants.create(Tenant(name="acme", weight=9.0))
    with pytest.raises(TenantNotFound, match="no tenant zoo"):
        tenants.update(Tenant(name="zoo"))
    tenants.update(Tenant(name="acme", max_queued=4))
    assert tenants.get("acme").max_queued == 4


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "lower-case letters"),
        ({"name": "Acme"}, "lower-case letters"),
        ({"name": "a:b"}, "lower-case letters"),
        ({"name": "-a"}, "lower-case letters"),
        ({"name": "a" * 65}, "at most 64"),
        ({"name": "a\n"}, "lower-case letters"),
        ({"name": "a", "weight": 0}, "weight"),
        ({"name": "a", "weight": -1}, "weight"),
        ({"name": "a", "weight": float("nan")}, "weight"),
        ({"name": "a", "weight": 1e9}, "weight"),
        ({"name": "a", "max_queued": 0}, "max_queued"),
        ({"name": "a", "max_queued": -3}, "max_queued"),
    ],
)
def test_a_tenant_that_can_not_be_is_refused_with_what_can(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Tenant.checked(**fields)


def test_a_key_tells_its_tenant_and_scopes(keys: Keys) -> None:
    text = keys.create("acme")

    caller = keys.check(text)

    assert caller.tenant == Tenant(name="acme", weight=2.5, max_queued=7)
    assert (caller.scopes, caller.key_id) == (("create", "read"), id_of(text))


def test_no_secret_is_stored(keys: Keys, redis: Redis) -> None:
    secret = keys.create("acme").split("_")[2]

    assert len(secret) == 64
    assert all(secret not in value for value in redis.hvals("wanserve:keys"))


def test_what_is_stored_opens_nothing_under_another_pepper(keys: Keys, redis: Redis) -> None:
    text = keys.create("acme")

    with pytest.raises(InvalidApiKey):
        Keys(redis, pepper=b"another pepper here").check(text)


@pytest.mark.parametrize(
    "bend",
    [
        lambda text: "",
        lambda text: "none",
        lambda text: text[:-1],
        lambda text: text + "0",
        lambda text: text + "\n",
        lambda text: text.upper(),
        lambda text: text.replace("ws_", "sk_"),
        lambda text: text.replace(id_of(text), "0" * 16),
        lambda text: text[:-64] + "0" * 64,
        lambda text: "ws_" + "é" * 16 + text[-65:],
    ],
)
def test_a_bent_key_opens_nothing(keys: Keys, bend: Callable[[str], str]) -> None:
    with pytest.raises(InvalidApiKey):
        keys.check(bend(keys.create("acme")))


def test_the_stand_in_for_unknown_ids_has_no_key(keys: Keys) -> None:
    with pytest.raises(InvalidApiKey):
        keys.check(f"ws_{'0' * 16}_{'0' * 64}")


def test_a_revoked_key_opens_nothing_and_stays_listed(keys: Keys) -> None:
    first, second = keys.create("acme"), keys.create("acme")

    keys.revoke(id_of(first))

    with pytest.raises(InvalidApiKey, match="revoked"):
        keys.check(first)
    assert keys.check(second).tenant.name == "acme"
    assert [(key.id, key.is_active(time.time())) for key in keys.list()] == [
        (id_of(first), False),
        (id_of(second), True),
    ]


def test_revoking_twice_keeps_the_first_date_and_a_stranger_is_told(keys: Keys) -> None:
    key_id = id_of(keys.create("acme"))

    first, second = keys.revoke(key_id), keys.revoke(key_id)

    assert first == second
    with pytest.raises(KeyNotFound, match="no API key with the id nothing"):
        keys.revoke("nothing")


def test_a_key_can_be_revoked_when_memory_is_full(keys: Keys, limit_memory: Callable[[int], None]) -> None:
    text = keys.create("acme")
    limit_memory(1)

    keys.revoke(id_of(text))

    with pytest.raises(InvalidApiKey):
        keys.check(text)


def test_keys_of_another_pepper_are_told_before_more_are_made(keys: Keys, redis: Redis) -> None:
    other = Keys(redis, pepper=b"another pepper here")
    other.check_pepper()
    text = keys.create("acme")

    with pytest.raises(SettingsError, match="WANSERVE_KEY_PEPPER"):
        other.check_pepper()
    keys.check_pepper()
    keys.revoke(id_of(text))
    other.check_pepper()


def test_the_time_of_a_check_does_not_depend_on_the_key(keys: Keys) -> None:
    text = keys.create("acme")
    revoked = keys.create("acme")
    keys.revoke(id_of(revoked))
    wrong = {
        "unknown id": f"ws_{'1' * 16}_{text[-64:]}",
        "all of the secret wrong": text[:-64] + "f" * 64,
        "the last digit wrong": text[:-1] + ("0" if text[-1] != "0" else "1"),
        "revoked": revoked,
    }
    seconds: dict[str, list[float]] = {name: [] for name in wrong}

    # Turn by turn, so that whatever else the machine does falls on all alike.
    for _ in range(400):
        for name, candidate in wrong.items():
            started = time.perf_counter()
            with pytest.raises(InvalidApiKey):
                keys.check(candidate)
            seconds[name].append(time.perf_counter() - started)

    medians = {name: statistics.median(times) for name, times in seconds.items()}
    assert max(medians.values()) < 1.25 * min(medians.values()), medians


def test_a_caller_is_remembered_for_seconds_and_asked_for_once(
    keys: Keys, callers: Callers, clock: Clock, sent: Callable[[], tuple[str, int]]
) -> None:
    text = keys.create("acme")
    callers.of_key(text)
    before = sent()

    for _ in range(100):
        assert callers.of_key(text).tenant.name == "acme"

    assert sent() == before
    clock.seconds += FRESH_SECONDS
    callers.of_key(text)
    # EVALSHA once, and its script's own commands: HGET twice, TIME.
    assert sent() == ("evalsha", before[1] + 4)


def test_a_revocation_takes_effect_within_seconds(keys: Keys, callers: Callers, clock: Clock) -> None:
    text = keys.create("acme")
    callers.of_key(text)
    keys.revoke(id_of(text))

    clock.seconds += FRESH_SECONDS

    with pytest.raises(InvalidApiKey):
        callers.of_key(text)


def test_a_wrong_key_is_never_remembered(keys: Keys, callers: Callers) -> None:
    text = keys.create("acme")
    wrong = text[:-1] + ("0" if text[-1] != "0" else "1")
    callers.of_key(text)

    for _ in range(2):
        with pytest.raises(InvalidApiKey):
            callers.of_key(wrong)


def test_without_a_key_the_default_tenant_is_meant_with_the_limits_it_was_given(
    tenants: Tenants, callers: Callers, clock: Clock
) -> None:
    assert callers.keyless().tenant == Tenant(name="default")
    assert callers.keyless().scopes == ("create", "read", "review", "admin")

    tenants.create(Tenant(name="default", max_queued=2))
    clock.seconds += FRESH_SECONDS

    assert callers.keyless().tenant.max_queued == 2


def test_a_rotated_key_works_beside_the_new_one_until_it_ends(redis: Redis, tenants: Tenants) -> None:
    now = Clock()
    keys = Keys(redis, pepper=PEPPER, clock=now)
    tenants.create(Tenant(name="acme"))
    old = keys.create("acme", scopes=["read"], requests_per_minute=9)

    new = keys.rotate(id_of(old), overlap_seconds=60)

    assert keys.check(old).tenant == keys.check(new).tenant
    assert (keys.check(new).scopes, keys.check(new).requests_per_minute) == (("read",), 9)
    assert keys.get(id_of(old)).replaced_by == id_of(new)
    now.seconds += 60
    with pytest.raises(InvalidApiKey, match="has ended"):
        keys.check(old)
    assert keys.check(new).key_id == id_of(new)


def test_a_key_ends_by_itself_and_so_does_what_it_was_rotated_to(redis: Redis, tenants: Tenants) -> None:
    now = Clock()
    keys = Keys(redis, pepper=PEPPER, clock=now)
    tenants.create(Tenant(name="acme"))
    old = keys.create("acme", lifetime_seconds=100)

    new = keys.rotate(id_of(old), overlap_seconds=1000)

    now.seconds += 99
    assert keys.check(old).key_id
    now.seconds += 1
    for text in (old, new):
        with pytest.raises(InvalidApiKey):
            keys.check(text)


def test_only_a_key_that_works_and_was_not_rotated_is(keys: Keys) -> None:
    rotated, revoked = keys.create("acme"), keys.create("acme")
    keys.rotate(id_of(rotated), overlap_seconds=60)
    keys.revoke(id_of(revoked))

    for text in (rotated, revoked):
        with pytest.raises(Conflict, match="create a new one"):
            keys.rotate(id_of(text), overlap_seconds=60)
    with pytest.raises(KeyNotFound):
        keys.rotate("nothing", overlap_seconds=60)


def test_a_revocation_during_a_rotation_stays(keys: Keys, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    text = keys.create("acme")
    make, revoked = keys._new, []

    def make_while_it_is_revoked(*arguments: object, **named: object) -> object:
        if not revoked:
            revoked.append(Keys(redis, pepper=PEPPER).revoke(id_of(text)))
        return make(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(keys, "_new", make_while_it_is_revoked)

    with pytest.raises(Conflict):
        keys.rotate(id_of(text), overlap_seconds=60)
    assert len(keys.list()) == 1
    with pytest.raises(InvalidApiKey):
        keys.check(text)


def test_a_key_asks_as_often_as_it_may_and_again_after_the_time_that_was_named(redis: Redis) -> None:
    rates = Rates(redis)
    for _ in range(120):
        rates.take("k", per_minute=120)

    with pytest.raises(TooManyRequests, match="120 times a minute") as refused:
        rates.take("k", per_minute=120)

    rates.take("other", per_minute=120)
    assert refused.value.retry_after_seconds == 1
    time.sleep(1)
    rates.take("k", per_minute=120)
    assert 0 < redis.ttl("wanserve:rate:k") <= 120
