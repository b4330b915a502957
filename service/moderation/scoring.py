"""What the filter reads in a text: by the word lists, and by the classifier where they name nothing."""

from service.moderation.categories import CATEGORIES, Category
from service.moderation.classifier import shared_classifier
from service.moderation.lexicon import read_lexicon
from service.moderation.normalise import Readings, readings_of
from service.moderation.policy import Scores


def scores_of(text: str) -> Scores:
    """The word lists decide in a fraction of a millisecond."""
    readings = readings_of(text)
    named = category_named(readings)
    if named is not None:
        return Scores({category: float(category == named) for category in CATEGORIES})
    return Scores(shared_classifier().scores(readings))


def category_named(readings: Readings) -> Category | None:
    """The category whose words a text uses, if any."""
    latin = (read_lexicon(name).category_of(text) for text in readings.latin for name in ("en", "pinyin"))
    found = next((category for category in latin if category is not None), None)
    return found or read_lexicon("zh").category_of(readings.han)
