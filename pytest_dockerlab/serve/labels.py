"""Names of classes: the ten digits in English and Chinese, and the ImageNet names that a wrong model answers with."""

from __future__ import annotations

import re
import unicodedata

WORDS = {
    word: digit
    for digit, words in enumerate(
        (
            "zero 零 〇",
            "one 一 壹",
            "two 二 贰 两",
            "three 三 叁",
            "four 四 肆",
            "five 五 伍",
            "six 六 陆",
            "seven 七 柒",
            "eight 八 捌",
            "nine 九 玖",
        )
    )
    for word in words.split()
}
MAX_TEXT = 300

_ENGLISH = re.compile(r"(?<![a-z])(zero|one|two|three|four|five|six|seven|eight|nine)(?![a-z])")
# A Chinese numeral counts alone, or after what introduces it: `一` is also in `这是一个`.
_CHINESE = re.compile(
    r"(?:^|数字|结果|预测|类别|标签|答案|[是为:：=])\s*[\"'“「]?([零〇一二三四五六七八九壹贰叁肆伍陆柒捌玖])[\"'”」。.!！]?$"
)
# What looks like a number and names no class: percentages, and numbers with a fraction.
_MEASURES = re.compile(r"[0-9]+(?:\.[0-9]+)?\s*%|[0-9]*\.[0-9]+(?:e[-+]?[0-9]+)?")
_TROUBLE = re.compile(r"error|exception|traceback|fail|not found|denied|unavailable|错误|失败|异常")

# Not all thousand: what classifiers of photographs answer to a white stroke on black, and the best known others.
_NAMES = """
matchstick hook corkscrew safety_pin nematode buckle whistle street_sign analog_clock digital_clock digital_watch
web_site website wall_clock stopwatch spotlight screw nail padlock combination_lock chain letter_opener can_opener
envelope menu comic_book book_jacket crossword_puzzle jigsaw_puzzle ballpoint fountain_pen quill pencil_box
rubber_eraser rule syringe hair_slide bow necklace loupe magnetic_compass barometer odometer hourglass parking_meter
traffic_light torch candle lighter paper_towel toilet_tissue band_aid hand-held_computer ipod cellular_telephone
modem mouse joystick switch remote_control oscilloscope scoreboard space_bar typewriter_keyboard screen monitor
projector radio loudspeaker tick ladle wooden_spoon spatula cleaver hammer screwdriver plunger hatchet bolo_tie
paddle snorkel sunglass sunglasses umbrella parachute balloon airship missile projectile shield bubble lampshade
table_lamp horizontal_bar swing pole flagpole knot lens_cap reflex_camera polaroid_camera drum gong maraca sax
trombone french_horn banjo violin cello harp ocarina flute harmonica sea_snake night_snake thunder_snake
ringneck_snake hognose_snake garter_snake flatworm jellyfish sea_slug sea_cucumber conch snail slug
chambered_nautilus sea_urchin tabby tabby_cat tiger_cat egyptian_cat persian_cat siamese_cat golden_retriever
labrador_retriever samoyed beagle pug tench goldfish great_white_shark hen cock banana granny_smith strawberry lemon
orange bagel pretzel cheeseburger hotdog pizza espresso cup coffee_mug volcano cliff alp seashore lakeside
sports_car minivan school_bus unicycle mountain_bike
"""
IMAGENET = frozenset(_NAMES.split())


def is_imagenet(name: str) -> bool:
    """Whether a class name is one of ImageNet's, by word or by synset (`n02123045`)."""
    plain = "_".join(name.lower().split())
    return plain in IMAGENET or re.fullmatch(r"n[0-9]{8}", plain) is not None


def digit_in(text: str) -> int | None:
    """Return the one digit that a label or a short sentence names, or `None` where there is none, or more than one.

    Figures decide over words ("this one is a 7"), and words confirm them ("7 - seven").
    """
    if len(text) > MAX_TEXT:
        return None
    plain = unicodedata.normalize("NFKC", text).strip().lower()  # full-width figures
    if re.fullmatch(r"[\"'\[(]*([0-9])(?:\.0*)?[\"'\])]*[.,;!]?", plain):
        return int(re.sub(r"[^0-9]", "", plain)[0])
    if _TROUBLE.search(plain):
        return None
    figures = {int(number) for number in re.findall(r"[0-9]+", _MEASURES.sub(" ", plain)) if len(number) < 10}
    if figures:
        return figures.pop() if len(figures) == 1 and max(figures) <= 9 else None
    words = {WORDS[word] for word in _ENGLISH.findall(plain)}
    if not words:
        words = {WORDS[word] for word in _CHINESE.findall(plain)}
    return words.pop() if len(words) == 1 else None


def is_digit_name(name: str) -> bool:
    """Whether a class name is one of the ten digits, and not a word beside another thing: `7`, `seven`, `class_7`."""
    plain = unicodedata.normalize("NFKC", name).strip().lower()
    if plain in WORDS:
        return True
    return (
        len(plain) <= 24 and digit_in(plain) is not None and re.search(r"acc|loss|time|conf|score|top", plain) is None
    )
