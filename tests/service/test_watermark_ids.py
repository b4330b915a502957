"""Every asset has a number of its own, and the number leads back to it."""

from redis import Redis

from service.jobs.watermark_ids import WatermarkIds

KEY = b"a key of 16 bytes"


def test_asset_keeps_its_number_however_often_it_is_asked_for(redis: Redis) -> None:
    ids = WatermarkIds(redis)

    number = ids.take("asset_a", key=KEY)

    assert ids.take("asset_a", key=KEY) == number
    assert ids.asset_of(number) == "asset_a"
    assert 0 <= number < 1 << 32


def test_asset_whose_number_is_taken_gets_another(redis: Redis) -> None:
    ids = WatermarkIds(redis)
    number = ids.take("asset_a", key=KEY)
    redis.hset(f"wanserve:watermarks:{number % (1 << 14)}", str(number), "asset_b")

    other = ids.take("asset_a", key=KEY)

    assert other != number
    assert ids.asset_of(number) == "asset_b"
    assert ids.asset_of(other) == "asset_a"


def test_forgotten_number_leads_nowhere(redis: Redis) -> None:
    ids = WatermarkIds(redis)
    number = ids.take("asset_a", key=KEY)

    ids.forget("asset_a", keys=[b"another key, 16 b", KEY])

    assert ids.asset_of(number) is None


def test_forgetting_frees_no_number_of_another_asset(redis: Redis) -> None:
    ids = WatermarkIds(redis)
    kept = ids.take("asset_b", key=KEY)

    ids.forget("asset_a", keys=[KEY])

    assert ids.asset_of(kept) == "asset_b"
