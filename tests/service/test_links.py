"""Links: a CDN wins, then presigned ones, else the gateway's own with a token that can't be bent."""

from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

import pytest

from service.errors import Forbidden
from service.jobs.record import Asset, AssetFile, State, VideoRecord
from service.jobs.submission import Submission
from service.links import Links
from service.settings import Settings
from service.storage import open_storage

NOW = 1_800_000_000.0


@pytest.fixture
def record(submission: Callable[..., Submission]) -> VideoRecord:
    file = AssetFile(key="assets/asset_1/exec_1/video.mp4", content_type="video/mp4", size_bytes=9)
    return VideoRecord(
        id="video_1",
        job_id="job_1",
        state=State.COMPLETED,
        request=submission().request,
        created_at=NOW,
        asset=Asset(id="asset_1", video=file, width=256, height=256, num_frames=17, fps=8),
    )


def make(settings: Settings, **changes: object) -> Links:
    changed = settings.with_changes(**changes)
    return Links(open_storage(changed), changed)


def token_of(url: str) -> tuple[int, str]:
    query = parse_qs(urlsplit(url).query)
    return int(query["expires"][0]), query["token"][0]


def test_a_gateway_link_carries_a_token_that_the_gateway_accepts(settings: Settings, record: VideoRecord) -> None:
    links = make(settings)

    link = links.link(record, variant="video", base_url="http://127.0.0.1:8000/", now=NOW)

    assert link is not None
    assert link.url.startswith("http://127.0.0.1:8000/v1/videos/video_1/content?variant=video&expires=")
    assert link.expires_at == NOW + 3600
    expires, token = token_of(link.url)
    links.check("video_1", variant="video", expires=expires, token=token, now=NOW + 3599)


@pytest.mark.parametrize(
    ("video_id", "variant", "later", "suffix"),
    [
        ("video_2", "video", 0, ""),
        ("video_1", "thumbnail", 0, ""),
        ("video_1", "video", 3601, ""),
        ("video_1", "video", 0, "x"),
        ("video_1", "video", 0, "é"),
    ],
)
def test_a_bent_or_old_link_is_forbidden(
    settings: Settings, record: VideoRecord, video_id: str, variant: str, later: float, suffix: str
) -> None:
    links = make(settings)
    link = links.link(record, variant="video", base_url="http://gateway", now=NOW)
    assert link is not None
    expires, token = token_of(link.url)

    with pytest.raises(Forbidden):
        links.check(video_id, variant=variant, expires=expires, token=token + suffix, now=NOW + later)


def test_another_secret_makes_other_tokens(settings: Settings, record: VideoRecord) -> None:
    ours = make(settings, link_secret="a" * 32)
    theirs = make(settings, link_secret="b" * 32)
    link = theirs.link(record, variant="video", base_url="http://gateway", now=NOW)
    assert link is not None
    expires, token = token_of(link.url)

    with pytest.raises(Forbidden):
        ours.check("video_1", variant="video", expires=expires, token=token, now=NOW)


def test_the_public_address_is_used_when_set(settings: Settings, record: VideoRecord) -> None:
    link = make(settings, public_url="https://videos.example.com/api/").link(
        record, variant="video", base_url="http://10.0.0.1", now=NOW
    )

    assert link is not None
    assert link.url.startswith("https://videos.example.com/api/v1/videos/video_1/content?")


def test_a_public_store_gets_presigned_links(settings: Settings, record: VideoRecord) -> None:
    link = make(settings, s3_public_endpoint="https://s3.example.com").link(
        record, variant="video", base_url="http://gateway", now=NOW
    )

    assert link is not None
    assert link.url.startswith("https://s3.example.com/")
    assert "X-Amz-Expires=3600" in link.url


def test_a_presigned_link_keeps_a_name_in_any_script(settings: Settings, record: VideoRecord) -> None:
    named = record.model_copy(update={"file_name": "红球.mp4"})

    link = make(settings, s3_public_endpoint="https://s3.example.com").link(
        named, variant="video", base_url="http://gateway", now=NOW
    )

    assert link is not None
    [disposition] = parse_qs(urlsplit(link.url).query)["response-content-disposition"]
    assert disposition == "inline; filename=\"video_1.mp4\"; filename*=UTF-8''%E7%BA%A2%E7%90%83.mp4"


def test_a_cdn_wins_over_everything(settings: Settings, record: VideoRecord) -> None:
    link = make(settings, cdn_base_url="https://cdn.example.com/", s3_public_endpoint="https://s3.example.com").link(
        record, variant="video", base_url="http://gateway", now=NOW
    )

    assert link is not None
    assert (link.url, link.expires_at) == ("https://cdn.example.com/assets/asset_1/exec_1/video.mp4", None)


def test_a_file_that_is_not_there_has_no_link(settings: Settings, record: VideoRecord) -> None:
    links = make(settings)

    for variant in ("thumbnail", "spritesheet", "x"):
        assert links.link(record, variant=variant, base_url="http://gateway", now=NOW) is None
