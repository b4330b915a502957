"""HTTP ranges and validators (RFC 9110, sections 13 and 14). Pure."""

import re

from service.errors import RangeNotSatisfiable

# No file needs more digits, and int() refuses thousands of them.
_ONE_RANGE = re.compile(r"^bytes=\s*([0-9]{0,19})-([0-9]{0,19})\s*$", re.IGNORECASE)


def wanted_range(header: str | None, *, size_bytes: int) -> tuple[int, int] | None:
    """Start and end (not included) of the one range asked for; None for the whole file.

    Several ranges and malformed ones get the whole file, as the standard allows.
    Raises RangeNotSatisfiable for a range outside the file.
    """
    found = _ONE_RANGE.match(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        start, end = max(0, size_bytes - int(last)), size_bytes
    else:
        start, end = int(first), min(int(last) + 1 if last else size_bytes, size_bytes)
        if last and int(last) < int(first):
            return None
    if start >= end:
        raise RangeNotSatisfiable(f"The file has {size_bytes} bytes; {header} lies outside it.", size_bytes=size_bytes)
    return start, end


def names_etag(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match lists the file's ETag; weak comparison."""
    if header is None:
        return False
    listed = {tag.strip().removeprefix("W/") for tag in header.split(",")}
    return "*" in listed or etag.removeprefix("W/") in listed


def is_same_file(if_range: str | None, etag: str) -> bool:
    """Whether a Range still means the file that the client has part of; strong comparison, ETags only."""
    return if_range is None or (if_range.strip() == etag and not etag.startswith("W/"))
