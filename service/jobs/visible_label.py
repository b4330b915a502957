"""What viewers see on a finished clip: a text that says who made it, a brand's logo, and who may leave them away.

The text's rules follow China's GB 45438-2025: it says AI, stays for two seconds at least, and its letters have a
twentieth of the short side. Pure.
"""

import unicodedata
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from service.errors import InvalidRequest
from service.jobs.fields import Flag, Number
from service.jobs.record import LabelPosition, VisibleLabel, Wire

Language = Literal["zh", "en", "both"]
LabelRule = Literal["always", "default", "on_request", "off"]
"""always: no request can leave it away; default: one can; on_request: only where one asks; off: never."""

MIN_SECONDS = 2.0
MAX_CHARACTERS = 32
TEXTS: dict[Language, str] = {"zh": "AI生成", "en": "AI-GENERATED", "both": "AI生成\nAI-GENERATED"}
WORDS = ("AI", "人工智能")
"""One of them must be in a label's text."""


def _drawable(text: str) -> str:
    if not any(word in text for word in WORDS):
        raise ValueError("must say AI or 人工智能")
    if not all(_is_drawable(character) for character in text):
        raise ValueError("may hold Latin and Chinese letters, digits, common punctuation and single spaces")
    return text


def _is_drawable(character: str) -> bool:
    """Whether the label's font has it."""
    code = ord(character)
    if 0x4E00 <= code <= 0x9FA5 or character in " ·，。：（）《》、":
        return True
    return 0x21 <= code <= 0x7E or (0xC0 <= code <= 0xFF and unicodedata.category(character).startswith("L"))


Text = Annotated[str, Field(min_length=2, max_length=MAX_CHARACTERS), AfterValidator(_drawable)]
Opacity = Annotated[Number, Field(ge=0.3, le=1)]
Seconds = Annotated[Number, Field(ge=MIN_SECONDS, le=3600)]


class AskedLabel(BaseModel):
    """A request's own wishes; what is left out is as the tenant has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: Text | None = Field(None, description="Must say AI or 人工智能.")
    language: Language | None = Field(None, description="Of the text, where none is given.")
    position: LabelPosition | None = None
    opacity: Opacity | None = None
    seconds: Seconds | None = Field(None, description="From the start; null: the whole clip.")
    logo: Flag | None = Field(None, description="Whether the tenant's logo is drawn too.")


Asked = bool | AskedLabel | None
"""true and false: with and without a label, as the tenant has it."""


class LabelPolicy(Wire):
    """A tenant's."""

    rule: LabelRule | None = None
    """None: the service's own (WANSERVE_VISIBLE_LABEL)."""

    text: Text | None = None
    language: Language = "both"
    position: LabelPosition = "bottom-right"
    opacity: Opacity = 1.0
    logo: str | None = Field(None, pattern=r"^[0-9a-f]{64}$")
    """SHA-256 of the logo that its videos carry; PUT /v1/admin/tenants/{name}/logo sets it."""

    logo_position: LabelPosition = "top-left"


@lru_cache(maxsize=256)
def visible_label(asked: Asked, policy: LabelPolicy, *, rule: LabelRule) -> VisibleLabel | None:
    """rule: the service's. Raises InvalidRequest for what the rule does not allow."""
    rule = policy.rule or rule
    wishes = asked if isinstance(asked, AskedLabel) else AskedLabel()
    has_text = _has_text(asked, rule)
    logo = None if wishes.logo is False else policy.logo
    if rule == "always":
        _refuse_less(wishes, policy)
    if wishes.logo and policy.logo is None:
        raise _refused("there is no logo: an operator sets one with PUT /v1/admin/tenants/{name}/logo")
    if not has_text and logo is None:
        return None
    position = wishes.position or policy.position
    return VisibleLabel(
        text=_text(wishes, policy) if has_text else None,
        position=position,
        opacity=wishes.opacity or policy.opacity,
        seconds=wishes.seconds,
        logo=logo,
        logo_position=_elsewhere(policy.logo_position, position) if has_text else policy.logo_position,
    )


def _has_text(asked: Asked, rule: LabelRule) -> bool:
    match rule:
        case "always":
            if asked is False:
                raise _refused("it can't be left away here: every video carries it")
            return True
        case "off":
            if asked is True or isinstance(asked, AskedLabel):
                raise _refused("labels are turned off here: have WANSERVE_VISIBLE_LABEL or the tenant's rule changed")
            return False
        case "default":
            return asked is not False
        case "on_request":
            return asked is True or isinstance(asked, AskedLabel)


def _refuse_less(wishes: AskedLabel, policy: LabelPolicy) -> None:
    """Where every video must carry a label, a request may not weaken it."""
    if wishes.seconds is not None:
        raise _refused("seconds can't be limited here: the whole clip carries it")
    if wishes.opacity is not None and wishes.opacity < policy.opacity:
        raise _refused(f"opacity must be at least {policy.opacity:g} here")
    if wishes.logo is False and policy.logo is not None:
        raise _refused("the logo can't be left away here")


def _text(wishes: AskedLabel, policy: LabelPolicy) -> str:
    if wishes.text is not None:
        return wishes.text
    if wishes.language is not None:
        return TEXTS[wishes.language]
    return policy.text or TEXTS[policy.language]


def _elsewhere(wanted: LabelPosition, taken: LabelPosition) -> LabelPosition:
    """The same height's other corner where the label is there already."""
    if wanted != taken:
        return wanted
    vertical, horizontal = wanted.split("-")
    other: LabelPosition = f"{vertical}-{'right' if horizontal == 'left' else 'left'}"  # type: ignore[assignment]
    return other


def _refused(why: str) -> InvalidRequest:
    return InvalidRequest(f"visible_label: {why}.", param="visible_label")
