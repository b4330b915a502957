"""Undoes the common ways of hiding a word. Pure: text in, text out."""

import re
import unicodedata
from dataclasses import dataclass

_LOOKALIKES = str.maketrans(
    "аеорсухіѕԁјһԛԝтмкнвɡαοερυνικ" + "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ",
    "aeopcyxisdjhqwtmkhbgaoepuvik" + "abcdefghijklmnoprstuvwyz",
)
"""Cyrillic and Greek letters that look Latin, and small capitals."""

_DIGITS_AS_LETTERS = str.maketrans("013457@$!|€", "oieastasiie")

_SPACED_LETTERS = re.compile(r"(?<![a-z])(?:[a-z][\s._\-*+/]{1,2}){3,}[a-z](?![a-z])")
_STRETCHED = re.compile(r"([a-z])\1{2,}")
_WORD = re.compile(r"[\w@$!|€]+")
_LETTER = re.compile(r"[a-z]")
_BETWEEN_HAN = re.compile(r"[\s._\-*+/~^·•|]+")


@dataclass(frozen=True, slots=True)
class Readings:
    """What a text may have been meant to say."""

    latin: tuple[str, ...]
    """As it is, then with one disguise after the other taken off."""

    han: str
    """Without what splits Chinese words."""


def readings_of(text: str) -> Readings:
    normal = plain(text)
    return Readings(latin_readings(normal), han_reading(normal))


def plain(text: str) -> str:
    """One Unicode form, lower case, no invisible characters, no accents, no lookalike letters."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
    visible = "".join(c for c in decomposed if unicodedata.category(c) not in ("Cf", "Mn", "Me"))
    return visible.translate(_LOOKALIKES)


def latin_readings(text: str) -> tuple[str, ...]:
    """What a plain text may have been meant to say: as it is, and with its disguises taken off."""
    joined = _SPACED_LETTERS.sub(lambda found: re.sub(r"[^a-z]", "", found[0]), text)
    lettered = _WORD.sub(lambda found: _lettered(found[0]), joined)
    return tuple(dict.fromkeys((text, joined, lettered, _STRETCHED.sub(r"\1", lettered))))


def _lettered(word: str) -> str:
    """A word of letters and digits as letters alone; a number stays one."""
    return word.translate(_DIGITS_AS_LETTERS) if _LETTER.search(word) else word


def han_reading(text: str) -> str:
    """A plain text without what is put between Chinese characters to split a word. Commas and stops stay."""
    return _BETWEEN_HAN.sub("", text)
