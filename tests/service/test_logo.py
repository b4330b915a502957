import io
import struct
import zlib

import pytest
from PIL import Image

from service.errors import InvalidRequest
from service.logo import MAX_LOGO_BYTES, clean_logo


def picture(kind: str, *, frames: int = 1, lossless: bool = True) -> bytes:
    file = io.BytesIO()
    images = [Image.new("RGBA", (40, 20), (255, 10 * n, 0, 128)) for n in range(frames)]
    options = {"lossless": lossless} if kind == "WEBP" else {}
    images[0].save(file, kind, save_all=frames > 1, append_images=images[1:], **options)
    return file.getvalue()


def png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


def webp_that_claims(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 22) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + canvas


@pytest.mark.parametrize("upload", [picture("PNG"), picture("WEBP"), picture("WEBP", lossless=False)])
def test_good_logo_keeps_its_size_and_alpha(upload: bytes) -> None:
    with Image.open(io.BytesIO(clean_logo(upload))) as logo:
        assert (logo.format, logo.mode, logo.size) == ("PNG", "RGBA", (40, 20))
        assert logo.getpixel((20, 10))[3] == 128  # type: ignore[index]


def test_what_hides_behind_the_pixels_is_not_kept() -> None:
    assert b"<script>" not in clean_logo(picture("PNG") + b"<script>alert(1)</script>PK\x03\x04")


@pytest.mark.parametrize(
    ("upload", "says"),
    [
        (b"", "neither PNG nor WebP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "neither PNG nor WebP"),
        (picture("GIF"), "neither PNG nor WebP"),
        (png_that_claims(20_000, 20_000), "20000x20000 pixels"),
        (webp_that_claims(20_000, 20_000), "20000x20000 pixels"),
        (webp_that_claims(100, 100), "damaged"),
        (picture("PNG")[:-30], "damaged"),
        (picture("PNG", frames=2), "animated"),
        (picture("WEBP", frames=2), "animated"),
        (bytes(MAX_LOGO_BYTES + 1), "bytes: at most"),
    ],
)
def test_bad_logo_is_refused_with_its_reason(upload: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        clean_logo(upload)
    assert refused.value.param == "logo"
