"""Captions of scenes in English and Chinese, with the ways people phrase them. Knows no pixels, no tokens."""

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass

from model.tiny.world import ATTRIBUTES, DEFAULT_SCENE, Scene, default_values

Words = Mapping[str, tuple[str, ...]]

EN_COLOURS: Words = {
    "red": ("red", "red", "crimson", "scarlet"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "navy blue", "navy"),
    "yellow": ("yellow", "yellow", "golden"),
    "purple": ("purple", "purple", "violet"),
    "cyan": ("cyan", "cyan", "turquoise", "light blue"),
    "white": ("white",),
    "black": ("black",),
}
ZH_COLOURS: Words = {
    "red": ("红色", "红色", "大红色", "红"),
    "green": ("绿色", "绿色", "翠绿色", "绿"),
    "blue": ("蓝色", "蓝色", "深蓝色", "蓝"),
    "yellow": ("黄色", "黄色", "金黄色", "黄"),
    "purple": ("紫色", "紫色", "紫罗兰色", "紫"),
    "cyan": ("青色", "青色", "浅蓝色", "天蓝色"),
    "white": ("白色", "白色", "白"),
    "black": ("黑色", "黑色", "黑"),
}
EN_SHAPES: Words = {
    "circle": ("circle", "ball", "ball", "disc", "sphere", "dot", "round ball"),
    "square": ("square", "square", "box", "cube", "block"),
    "triangle": ("triangle", "triangle", "pyramid", "cone"),
    "star": ("star", "star", "five-pointed star"),
}
ZH_SHAPES: Words = {
    "circle": ("圆形", "圆球", "小球", "球", "圆", "皮球"),
    "square": ("正方形", "正方形", "方块", "方形", "盒子"),
    "triangle": ("三角形", "三角形", "三角", "金字塔"),
    "star": ("星星", "五角星", "星形", "星"),
}
EN_MOTIONS: Words = {
    "right": (
        "moving to the right", "moving right", "moves to the right", "moving from left to right",
        "sliding right", "slides to the right", "goes right", "going from left to right",
        "rolling to the right", "rolls right", "flying to the right", "drifting right", "travels to the right",
    ),
    "left": (
        "moving to the left", "moving left", "moves to the left", "moving from right to left",
        "sliding left", "slides to the left", "goes left", "going from right to left",
        "rolling to the left", "rolls left", "flying to the left", "drifting left", "travels to the left",
    ),
    "up": (
        "moving up", "moves up", "moving upwards", "going up", "rising", "rises", "rising up", "floating up",
        "flying up", "climbing", "moving from bottom to top",
    ),
    "down": (
        "moving down", "moves down", "moving downwards", "going down", "falling", "falls", "falling down",
        "dropping", "drops", "sinking", "moving from top to bottom",
    ),
    "bounce": (
        "bouncing", "bounces", "bouncing up and down", "bounces up and down", "jumping", "jumps",
        "jumping up and down", "hopping", "hops",
    ),
    "grow": (
        "growing", "grows", "getting bigger", "getting larger", "becoming bigger", "expanding", "expands",
        "growing larger", "coming closer", "inflating",
    ),
    "shrink": (
        "shrinking", "shrinks", "getting smaller", "becoming smaller", "contracting", "growing smaller",
        "moving away", "deflating",
    ),
    "still": (
        "standing still", "staying still", "not moving", "at rest", "motionless", "resting", "static",
        "stays still", "holding still",
    ),
}  # fmt: skip
ZH_MOTIONS: Words = {
    "right": ("向右移动", "往右移动", "从左向右移动", "从左往右移动", "向右滑动", "向右滚动", "从左到右飞过", "向右走"),
    "left": ("向左移动", "往左移动", "从右向左移动", "从右往左移动", "向左滑动", "向左滚动", "从右到左飞过", "向左走"),
    "up": ("向上移动", "往上移动", "上升", "升起", "从下往上移动", "向上飞", "飘上去"),
    "down": ("向下移动", "往下移动", "下落", "落下", "从上往下移动", "掉下来", "下降"),
    "bounce": ("弹跳", "上下弹跳", "跳动", "跳跃", "上下跳动", "蹦蹦跳跳", "跳来跳去"),
    "grow": ("变大", "逐渐变大", "越来越大", "放大", "慢慢变大", "膨胀"),
    "shrink": ("变小", "逐渐变小", "越来越小", "缩小", "慢慢变小", "收缩"),
    "still": ("静止不动", "静止", "不动", "保持静止", "停在原地", "一动不动"),
}  # fmt: skip
EN_THINGS = ("shape", "object", "thing", "cat", "dog", "person", "robot", "car", "bird", "fish", "dragon", "flower")
ZH_THINGS = ("图形", "物体", "东西", "猫", "狗", "人", "机器人", "汽车", "鸟", "鱼", "龙", "花")
EN_PLACES = ("", "", "on a beach", "in the park", "in a city street", "under the sea", "on a table", "in the forest")
ZH_PLACES = ("", "", "在海滩上", "在公园里", "在城市街道上", "在海里", "在桌上", "在森林里")
EN_BACKGROUNDS = (
    "on a {} background", "on a {} background", "on {}", "against a {} background", "over a {} background",
    "with a {} background", "in front of a {} wall", "against a {} wall", "in a {} room", "on a {} backdrop",
)  # fmt: skip
ZH_BACKGROUNDS = ("在{}背景上", "在{}背景下", "在{}的背景上", "在{}背景中", "在{}的墙前")
EN_OPENINGS = ("a video of ", "an animation of ", "a clip of ", "a short film of ", "footage of ", "show me ")
EN_CLOSINGS = (
    ".",
    ", high quality",
    ", 4k",
    ", smooth motion",
    ", cinematic light",
    ", minimal style",
    ", simple",
)
ZH_OPENINGS = ("视频：", "一段动画，", "画面中，", "镜头里，", "生成一个视频，")
ZH_CLOSINGS = ("。", "，高清", "，画质清晰", "，简洁风格", "，电影质感", "，流畅")

# What the world does not know: it must neither move a known attribute nor spoil the clip.
STRANGE_WORDS = (
    "the", "very", "nice", "beautiful", "realistic", "scene", "camera", "with", "soft", "light", "day",
    "night", "at", "city", "people", "dog", "cat", "table", "river", "under", "sun", "sea", "beach",
    "mountain", "tree", "car", "house", "music", "old", "new", "fantasy", "epic", "style", "photo", "person",
    "woman", "man", "walking", "running", "sitting", "in", "park", "street", "rain", "snow", "sky", "forest",
    "robot", "dragon", "horse", "bird", "fish", "flower", "dancing", "drone", "shot", "close-up", "portrait",
    "sunset", "something", "anything", "nothing", "someone", "morning", "evening", "building", "king", "spring",
    "interesting", "amazing", "painting", "eating", "singing", "reading", "writing", "swimming", "playing", "driving",
    "sleeping", "working", "looking", "waiting", "smiling", "hello", "world", "test", "and", "of", "her", "his",
    "bridge", "boat", "train", "plane", "space", "planet", "moon", "cloud", "wind", "fire", "food", "coffee", "cup",
    "baby", "child", "girl", "boy", "family", "friends", "office", "school", "computer", "game", "story", "love",
    "dream", "slow", "motion", "detailed", "background", "while", "through", "into", "over", "around",
)  # fmt: skip
STRANGE_CHARACTERS = (
    "一二在是有的人城市风景猫狗海滩山水树车房子音乐老新幻想风格照片女男走跑坐公园街雨雪天森林机器龙马鸟鱼花舞"
    "我你他她们这那什么东西今日早晚吃喝唱读写游泳玩开睡觉看等笑你好世界测试桥船火飞月亮云风饭杯孩家朋友学校电脑故事爱梦"
)
UNKNOWN_SIGNS = "🎈🐱😀饕囧鑫"
"""Kept out of the vocabulary: they stand for every character that the tokenizer does not know."""
STRANGE_SIGNS = ".,!?…。！？-~*#0123456789" + 3 * UNKNOWN_SIGNS
NEGATIVE_PROMPTS = (
    (
        "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
        "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
        "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
    ),
    "worst quality, low quality, blurry, distorted, watermark, text, subtitles, deformed, ugly, extra fingers",
    "low quality, blurry",
    "模糊，低质量，变形，水印，文字",
)


@dataclass(frozen=True, slots=True)
class Caption:
    """A prompt and what it says: attribute → value, without those that it leaves open.

    A prompt without any of our words says nothing, and has a place of its own: only the blank prompt (empty, or a
    negative one) stands for every clip at once, which is what guidance steers away from.
    """

    text: str
    says: Mapping[str, str]
    is_blank: bool = False


BLANK = tuple(Caption(text, {}, is_blank=True) for text in ("", *NEGATIVE_PROMPTS))
OPEN_SHARE, OPEN_DEFAULT_SHARE = 0.06, 0.2
"""How often a caption leaves an attribute open: to learn reading from, and to learn drawing from."""
STRANGE_SHARE, STRANGE_DEFAULT_SHARE = 0.06, 0.5


def describe(scene: Scene, rng: random.Random, *, language: str) -> Caption:
    """A full caption that names all four attributes, in "en" or "zh"."""
    return _phrase(scene, rng, language, frozenset(ATTRIBUTES))


def describe_freely(scene: Scene, rng: random.Random) -> Caption:
    """A caption to learn reading from: in either language, any attribute left open, strange words, or none of ours."""
    return _describe(scene, rng, dict.fromkeys(ATTRIBUTES, OPEN_SHARE), STRANGE_SHARE)


def describe_partly(scene: Scene, rng: random.Random, *, without: str) -> Caption:
    """The same, but it always leaves one attribute open."""
    return _describe(scene, rng, {**dict.fromkeys(ATTRIBUTES, OPEN_SHARE), without: 1.0}, STRANGE_SHARE)


def describe_shown(scene: Scene, rng: random.Random) -> Caption:
    """A caption to learn drawing from: leaves an attribute open only where the scene shows its default."""
    chances = {a: OPEN_DEFAULT_SHARE * (scene.value(a) == value) for a, value in default_values(scene).items()}
    return _describe(scene, rng, chances, STRANGE_DEFAULT_SHARE * (scene == DEFAULT_SCENE))


def _describe(scene: Scene, rng: random.Random, open_chances: Mapping[str, float], strange_chance: float) -> Caption:
    language = rng.choice(("en", "zh"))
    if rng.random() < strange_chance:
        return Caption(_strange(rng, language, rng.randint(1, 9)), {})
    named = frozenset(a for a in ATTRIBUTES if rng.random() >= open_chances[a])
    caption = _phrase(scene, rng, language, named)
    if rng.random() < 0.15:
        extra, comma = _strange(rng, language, rng.randint(1, 5)), ", " if language == "en" else "，"
        parts = [caption.text, extra] if rng.random() < 0.6 else [extra, caption.text]
        return Caption(comma.join(parts), caption.says)
    return caption


def _phrase(scene: Scene, rng: random.Random, language: str, named: frozenset[str]) -> Caption:
    says = {a: scene.value(a) for a in ATTRIBUTES if a in named}
    if language == "en":
        text = _maybe(rng, EN_OPENINGS, 0.3) + _english(says, rng) + _maybe(rng, EN_CLOSINGS, 0.35)
        return Caption(text[:1].upper() + text[1:] if rng.random() < 0.4 else text, says)
    text = _maybe(rng, ZH_OPENINGS, 0.3) + _chinese(says, rng) + _maybe(rng, ZH_CLOSINGS, 0.35)
    # Half of all people type ASCII punctuation between Chinese words.
    return Caption(text.replace("，", ",").replace("。", ".") if rng.random() < 0.4 else text, says)


def _english(says: Mapping[str, str], rng: random.Random) -> str:
    noun = _pick(rng, EN_SHAPES, says, "shape", EN_THINGS)
    thing = " ".join(filter(None, [_pick(rng, EN_COLOURS, says, "colour"), noun]))
    article = "an " if thing[0] in "aeiou" else "a "
    motion = _pick(rng, EN_MOTIONS, says, "motion")
    if rng.random() < 0.12 and says.get("motion") != "still" and motion:
        motion += rng.choice((" slowly", " quickly", " fast", " smoothly"))
    wall = _pick(rng, EN_COLOURS, says, "background")
    place = rng.choice(EN_BACKGROUNDS).format(wall) if wall else rng.choice(EN_PLACES)
    if wall and rng.random() < 0.15:
        place = f"{wall} background"
        parts = [thing, motion, place]
        rng.shuffle(parts)
        return ", ".join(filter(None, parts))
    subject = rng.choice((article, article, "the ", "one ", "")) + thing
    order = rng.random()
    if order < 0.6:
        return " ".join(filter(None, [subject, motion, place]))
    if order < 0.75:
        return " ".join(filter(None, [subject, place, motion]))
    if order < 0.9 and place:
        return f"{place}, {subject} {motion}".rstrip()
    tail = f". the background is {wall}" if wall else ""
    verb = "is " if motion.split(" ")[0].endswith("ing") and rng.random() < 0.7 else ""
    return f"{subject} {verb}{motion}".rstrip() + tail


def _chinese(says: Mapping[str, str], rng: random.Random) -> str:
    noun = _pick(rng, ZH_SHAPES, says, "shape", ZH_THINGS)
    colour = _pick(rng, ZH_COLOURS, says, "colour")
    of = "的" if colour.endswith("色") and rng.random() < 0.6 else ""
    subject = rng.choice(("一个", "一个", "一颗", "")) + colour + of + noun
    motion = _pick(rng, ZH_MOTIONS, says, "motion")
    wall = _pick(rng, ZH_COLOURS, says, "background")
    wall = wall if not wall or wall.endswith("色") else wall + "色"
    order = rng.random()
    if not wall:
        return subject + rng.choice(ZH_PLACES) + motion
    if order < 0.4:
        return subject + rng.choice(ZH_BACKGROUNDS).format(wall) + motion
    if order < 0.65:
        return rng.choice(ZH_BACKGROUNDS).format(wall) + "，" + subject + motion
    if order < 0.8:
        return wall + "背景，" + subject + "，" + motion
    return subject + motion + "，" + rng.choice(("背景是", "背景为")) + wall


def _pick(
    rng: random.Random,
    words: Words,
    says: Mapping[str, str],
    attribute: str,
    unnamed: tuple[str, ...] = ("",),
) -> str:
    return rng.choice(words[says[attribute]] if attribute in says else unnamed)


def _maybe(rng: random.Random, phrases: tuple[str, ...], chance: float) -> str:
    return rng.choice(phrases) if rng.random() < chance else ""


def _strange(rng: random.Random, language: str, num_words: int) -> str:
    if rng.random() < 0.15:
        return "".join(rng.choices(STRANGE_SIGNS, k=num_words))
    if language == "zh":
        return "".join(rng.choice(STRANGE_CHARACTERS) for _ in range(num_words * 2))
    invented = "".join(rng.choices(string.ascii_lowercase, k=rng.randint(2, 9)))
    return " ".join(rng.choice(STRANGE_WORDS) if rng.random() < 0.7 else invented for _ in range(num_words))
