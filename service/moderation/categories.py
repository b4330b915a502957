"""What the filter looks for."""

from collections.abc import Mapping
from typing import Literal, get_args

Category = Literal["sexual", "sexual/minors", "violence/graphic", "hate", "self-harm", "extremism"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

POLICY_VERSION = 2
"""Part of the cache key: raise it when the policy changes what may be shown."""

WORDING: Mapping[Category, str] = {
    "sexual": "sexual content",
    "sexual/minors": "sexual content with minors",
    "violence/graphic": "graphic violence",
    "hate": "hate",
    "self-harm": "self-harm",
    "extremism": "extremism",
}
