"""A file that was left alone, changed, put into another container or encoded anew: each is told as what it is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from c2pa import Reader
from structlog.testing import capture_logs

from service.cli import main
from service.provenance.evidence import Evidence, NotAVideo, Seal, examine, packets_sha256_of
from service.provenance.manifest import Generation, prompt_hmac
from service.provenance.notary import Notary, known_anchors
from service.settings import Settings
from tests.service.provenance.certificates import NOW, make_files
from worker.media.encode import save_mp4

ASSET = "asset_0123456789abcdef"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", content_producer="某某公司", provenance_secret="0123456789abcdef")


@pytest.fixture
def notary(settings: Settings) -> Notary:
    return Notary(settings)


@pytest.fixture
def generation(notary: Notary) -> Generation:
    return notary.generation(
        asset_id=ASSET,
        model="wan2.2-t2v-tiny",
        fingerprint="f" * 64,
        revision="r1",
        parameters={"seed": 7, "guidance_scale": 3.5},
        prompts=("a red ball", ""),
    )


@pytest.fixture
def file(tmp_path: Path, notary: Notary, generation: Generation) -> Path:
    """Labelled and signed, as a worker leaves it."""
    path = tmp_path / "video.mp4"
    frames = np.random.default_rng(1).integers(0, 255, (9, 64, 64, 3)).astype(np.uint8)
    save_mp4(frames, 8, path, tags=notary.tags(ASSET))
    assert notary.seal(path, generation)
    return path


def seen(path: Path, settings: Settings) -> Evidence:
    return examine(path, anchors=known_anchors(settings))


def test_a_file_of_ours_says_who_made_it_and_how(file: Path, settings: Settings) -> None:
    evidence = seen(file, settings)

    assert evidence.signature.seal is Seal.TRUSTED
    assert evidence.signature.faults == ()
    assert evidence.signature.signer == "wanserve (development), wanserve development signer"
    assert evidence.label is not None
    assert (evidence.label["Label"], evidence.label["ProduceID"]) == ("1", ASSET)
    assert evidence.label["ContentProducer"] == "某某公司"
    assert evidence.signature.generation == {
        "asset_id": ASSET,
        "model": "wan2.2-t2v-tiny",
        "fingerprint": "f" * 64,
        "revision": "r1",
        "parameters": {"seed": 7, "guidance_scale": 3.5},
        "prompt_hmac_sha256": prompt_hmac("a red ball", "", key=b"0123456789abcdef"),
    }
    assert b"a red ball" not in file.read_bytes()


def test_to_a_stranger_it_is_valid_and_its_signer_unknown(file: Path) -> None:
    assert examine(file).signature.seal is Seal.VALID


def test_signing_changes_no_picture_and_leaves_the_index_first(
    tmp_path: Path, file: Path, notary: Notary, settings: Settings
) -> None:
    unsigned = tmp_path / "unsigned.mp4"
    frames = np.random.default_rng(1).integers(0, 255, (9, 64, 64, 3)).astype(np.uint8)
    save_mp4(frames, 8, unsigned, tags=notary.tags(ASSET))

    assert seen(unsigned, settings).packets_sha256 == seen(file, settings).packets_sha256
    assert seen(unsigned, settings).signature.seal is Seal.NONE
    assert file.read_bytes().index(b"moov") < file.read_bytes().index(b"mdat")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".signed"] == []


@pytest.mark.parametrize("box", [b"mdat", b"moov"])
def test_one_changed_byte_is_found(file: Path, settings: Settings, box: bytes) -> None:
    content = bytearray(file.read_bytes())
    # Inside the pictures; and of the index the time of creation, which no player looks at.
    place = content.index(box) + (400 if box == b"mdat" else 16)
    content[place] ^= 1
    file.write_bytes(content)

    evidence = seen(file, settings)

    assert evidence.signature.seal is Seal.INVALID
    assert evidence.signature.faults == ("assertion.bmffHash.mismatch",)


def test_in_another_container_the_signature_is_gone_and_the_pictures_are_the_same(
    tmp_path: Path, file: Path, settings: Settings
) -> None:
    remuxed = tmp_path / "remuxed.mp4"
    with av.open(str(file)) as source, av.open(str(remuxed), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)

    evidence = seen(remuxed, settings)

    assert (evidence.signature.seal, evidence.label) == (Seal.NONE, None)
    assert not evidence.is_there
    assert evidence.packets_sha256 == seen(file, settings).packets_sha256


def test_encoded_anew_its_pictures_are_others(tmp_path: Path, file: Path, settings: Settings) -> None:
    with av.open(str(file)) as source:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)])
    save_mp4(frames, 8, tmp_path / "again.mp4")

    assert seen(tmp_path / "again.mp4", settings).packets_sha256 != seen(file, settings).packets_sha256


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"#EXTM3U\nhttp://127.0.0.1:1/secret.ts\n",
        b"\x00\x00\x00\x18ftypisom",
        b"\x00\x00\x00\x18ftypisom" + b"\xff" * 4096,
        b"\x89PNG\r\n\x1a\n" + b"\x00" * 100,
    ],
    ids=["empty", "playlist", "only a head", "noise behind a head", "picture"],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thing.mp4"
    path.write_bytes(content)

    with pytest.raises(NotAVideo):
        examine(path)


def test_a_cut_file_is_no_valid_one(file: Path, settings: Settings) -> None:
    file.write_bytes(file.read_bytes()[:-500])

    assert seen(file, settings).signature.seal is Seal.INVALID


def test_with_an_ended_certificate_the_video_goes_out_unsigned_and_the_log_says_why(
    tmp_path: Path, generation: Generation
) -> None:
    files = make_files(tmp_path)
    settings = Settings(data_dir=tmp_path / "data", c2pa_certificate=files.chain, c2pa_key=files.key)
    times, unsigned = [NOW], []
    notary = Notary(settings, clock=lambda: times[-1], on_unsigned=lambda: unsigned.append(1))
    path = tmp_path / "video.mp4"
    save_mp4(np.zeros((5, 32, 32, 3), np.uint8), 8, path, tags=notary.tags(ASSET))

    times.append(notary.expires_at.replace(year=notary.expires_at.year + 1))
    with capture_logs() as logs:
        assert not notary.seal(path, generation)

    assert "renew it" in logs[0]["reason"]
    assert unsigned == [1]
    assert examine(path).label is not None


def test_a_renewed_certificate_is_taken_without_a_restart(tmp_path: Path, generation: Generation) -> None:
    files = make_files(tmp_path)
    settings = Settings(data_dir=tmp_path / "data", c2pa_certificate=files.chain, c2pa_key=files.key)
    notary = Notary(settings, clock=lambda: NOW)
    ended = notary.expires_at
    make_files(tmp_path, ends=ended.replace(year=ended.year + 1))
    path = tmp_path / "video.mp4"
    save_mp4(np.zeros((5, 32, 32, 3), np.uint8), 8, path)

    assert notary.seal(path, generation)

    assert notary.expires_at > ended


def test_the_command_tells_it_in_words_and_in_json(
    file: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANSERVE_DATA_DIR", str(settings.data_dir))

    assert main(["verify", "--alone", str(file)]) == 0
    told = capsys.readouterr().out
    assert "by a signer who is known here" in told
    assert ASSET in told

    assert main(["verify", "--alone", "--json", str(file)]) == 0
    assert json.loads(capsys.readouterr().out)["signature"]["seal"] == "trusted"


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("none.mp4", None, 2, "No such file"),
        ("text.mp4", b"hello", 2, "is no MP4 file"),
    ],
)
def test_the_command_says_what_it_can_not_read(
    tmp_path: Path,
    name: str,
    content: bytes | None,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("WANSERVE_DATA_DIR", str(tmp_path / "data"))
    if content is not None:
        (tmp_path / name).write_bytes(content)

    assert main(["verify", "--alone", str(tmp_path / name)]) == code
    assert words in capsys.readouterr().err


def test_the_command_says_that_nothing_is_proven(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANSERVE_DATA_DIR", str(tmp_path / "data"))
    save_mp4(np.zeros((5, 32, 32, 3), np.uint8), 8, tmp_path / "bare.mp4")

    assert main(["verify", "--alone", str(tmp_path / "bare.mp4")]) == 1
    assert "No evidence: this says nothing about how the video was made" in capsys.readouterr().out


def test_the_command_ends_quietly_when_nobody_reads_on(file: Path, settings: Settings) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", "verify", "--alone", str(file)],
            env=os.environ | {"WANSERVE_DATA_DIR": str(settings.data_dir)},
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_remix_carries_its_originals_history(tmp_path: Path, file: Path, notary: Notary, settings: Settings) -> None:
    remix = tmp_path / "remix.mp4"
    save_mp4(np.full((5, 64, 64, 3), 99, np.uint8), 8, remix)
    generation = notary.generation(
        asset_id="asset_remix", model="m", fingerprint="f", parameters={}, prompts=("p", ""), parent_asset_id=ASSET
    )

    assert notary.seal(remix, generation, parent=file)

    evidence = seen(remix, settings)
    assert evidence.signature.seal is Seal.TRUSTED
    assert evidence.signature.generation is not None
    assert evidence.signature.generation["remixed_from_asset_id"] == ASSET
    with Reader(str(remix)) as reader:
        report = json.loads(reader.json())
    manifest = report["manifests"][report["active_manifest"]]
    [ingredient] = manifest["ingredients"]
    assert (ingredient["title"], ingredient["relationship"]) == (f"{ASSET}.mp4", "inputTo")
    # With the original's own manifest: model, parameters and signature.
    assert ingredient["active_manifest"] in report["manifests"]


def test_coded_pictures_of_a_file_of_ours_are_those_that_any_reader_finds(file: Path, settings: Settings) -> None:
    assert packets_sha256_of(file) == seen(file, settings).packets_sha256


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\0\0\0\x08free", b"\0\0\0\x01mdat" + bytes(16)])
def test_what_is_no_file_of_ours_has_no_coded_pictures(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(NotAVideo):
        packets_sha256_of(tmp_path / "a.mp4")
