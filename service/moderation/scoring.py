"""What the filter reads in a text: by the word lists, and by the classifier where they name nothing."""

from service.moderation.categories import CATEGORIES, Category
from service.moderation.classifier import shared_classifier
from service.moderation.lexicon import read_lexicon
from service.moderation.normalise import han_reading, latin_readings, plain
from service.moderation.policy import Scores


def scores_of(text: str) -> Scores:
    """The word lists decide in a fraction of a millisecond."""
    named = category_named(text)
    if named is not None:
        return Scores({category: float(category == named) for category in CATEGORIES}, named)
    return Scores(shared_classifier().scores(text))


def category_named(text: str) -> Category | None:
    """The category whose words a text uses, if any."""
    normal = plain(text)
    found = [read_lexicon(name).category_of(reading) for reading in latin_readings(normal) for name in ("en", "pinyin")]
    found.append(read_lexicon("zh").category_of(han_reading(normal)))
    return next((category for category in found if category is not None), None)
