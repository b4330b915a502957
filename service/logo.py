"""A brand's picture from an upload: its header is judged before a pixel is decoded, and nothing but pixels is kept."""

import io

from PIL import Image

from service.errors import InvalidRequest

MAX_LOGO_BYTES = 1 << 20
MAX_LOGO_SIDE = 2048


def clean_logo(upload: bytes) -> bytes:
    """PNG or WebP → a PNG (RGBA) drawn anew, without metadata or whatever else the file held.

    Raises InvalidRequest for anything else, too many bytes or pixels, several frames, or damage.
    """
    if len(upload) > MAX_LOGO_BYTES:
        raise _refused(f"has {len(upload)} bytes: at most {MAX_LOGO_BYTES} are taken")
    width, height = _header_size(upload)
    if not (0 < width <= MAX_LOGO_SIDE and 0 < height <= MAX_LOGO_SIDE):
        raise _refused(f"has {width}x{height} pixels: each side may have 1 to {MAX_LOGO_SIDE}")
    try:
        with Image.open(io.BytesIO(upload), formats=("PNG", "WEBP")) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise _refused("is animated: send a still picture")
            pixels = picture.convert("RGBA")
    except (OSError, SyntaxError, ValueError) as e:
        raise _refused("is damaged: save it anew as PNG") from e
    # A new picture, because a converted one takes its metadata along.
    clean = Image.new("RGBA", pixels.size)
    clean.paste(pixels)
    file = io.BytesIO()
    clean.save(file, "PNG")
    return file.getvalue()


def _header_size(upload: bytes) -> tuple[int, int]:
    """Read here, because Pillow allocates a WebP's whole canvas on opening it (PNG 11.2.2; RFC 9649)."""
    head = upload[:30].ljust(30, b"\0")
    if head[:8] == b"\x89PNG\r\n\x1a\n" and head[12:16] == b"IHDR":
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    match head[:4] + head[8:16]:
        case b"RIFFWEBPVP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"RIFFWEBPVP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"RIFFWEBPVP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    raise _refused("is neither PNG nor WebP")


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"The logo {why}.", param="logo")
