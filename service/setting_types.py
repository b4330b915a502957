"""Types of settings: what is legal in their text, and what it means."""

from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field

from service.moderation.categories import CATEGORIES, Category


def plain(name: str, default: Any = None) -> Any:
    """A field read from a variable that other programs know too, without our prefix."""
    return Field(default, validation_alias=AliasChoices(name.upper(), name.lower()))


def _without_trailing_slash(value: object) -> object:
    return value.rstrip("/") if isinstance(value, str) else value


HttpAddress = Annotated[
    str, BeforeValidator(_without_trailing_slash), Field(pattern=r"^https?://[^/\s?#]+(/[^\s?#]*)?$")
]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]
RedisAddress = Annotated[str, Field(pattern=r"^(rediss?|unix)://\S+$")]


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """CIDRs between commas. Raises ValueError."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def ports(text: str) -> tuple[range, ...]:
    """Ports and ranges of them between commas: 443,8000-8999. Raises ValueError."""
    pairs = [part.partition("-") for part in text.split(",")]
    found = tuple(range(int(first), int(last or first) + 1) for first, _, last in pairs)
    if not all(1 <= ports_of_one.start < ports_of_one.stop <= 65536 for ports_of_one in found):
        raise ValueError("ports lie between 1 and 65535, the lower one first: 443,8000-8999")
    return found


def labels(text: str) -> dict[str, Category]:
    """Categories by label, of LABEL=CATEGORY between commas. Raises ValueError."""
    pairs = [part.rpartition("=") for part in text.split(",") if part.strip()]
    if not all(label.strip() and category.strip() in CATEGORIES for label, _, category in pairs):
        raise ValueError(f"give LABEL=CATEGORY between commas, where a category is one of {', '.join(CATEGORIES)}")
    return {label.strip(): cast(Category, category.strip()) for label, _, category in pairs}


def checked_by(parse: Callable[[str], object]) -> AfterValidator:
    """A field that stays text, so that a child process can be given it, but must be legal."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)
