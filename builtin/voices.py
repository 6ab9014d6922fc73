"""The synthetic voices of the built-in corpus, and which of them are for training and which for the test.

No speaker is on both sides. A speaker is a person (flite's kal, kal16 and festival's kal are one; flite's and
festival's slt too) or an espeak-ng variant, in whatever accent it speaks and whatever number ends its name
(steph, steph2 and steph3 differ by little).
"""

from dataclasses import dataclass
from typing import Literal

Engine = Literal["espeak", "flite", "festival"]
Split = Literal["train", "test"]


@dataclass(frozen=True)
class Voice:
    """One voice as its synthesizer calls it, and how it may be varied.

    speed  range of a factor on the speaking rate, 1 is the synthesizer's own
    pitch  range; espeak: its 0 to 99 setting; festival's diphones and flite's kal16: mean F0 in Hz;
           flite's other voices: a factor on F0; festival's HTS: semitones
    """

    name: str
    speaker: str
    engine: Engine
    split: Split
    gender: Literal["female", "male"]
    model: str
    speed: tuple[float, float]
    pitch: tuple[float, float]


ACCENTS = {  # name, and the file in espeak-ng-data/lang
    "en-us": "gmw/en-US",
    "en-gb": "gmw/en",
    "en-gb-scotland": "gmw/en-GB-scotland",
    "en-gb-x-rp": "gmw/en-GB-x-rp",
    "en-us-nyc": "gmw/en-US-nyc",
    "en-gb-x-gbclan": "gmw/en-GB-x-gbclan",
    "en-029": "gmw/en-029",
    "en-gb-x-gbcwmd": "gmw/en-GB-x-gbcwmd",
}

# Left out: whispers, robots and echoes (whisper, whisperf, croak, UniRobot, robosoft*, anikaRobot, Demonic,
# announcer, Tweaky), klatt* (another synthesis that wants its own consonants), fast (a speed test), Storm (it sets
# the language).
TRAIN_FEMALE = (
    *("Alicia", "Andrea", "anika", "aunty", "f1", "f2", "f3", "f5", "grandma", "steph", "steph2", "steph3"),
)
TRAIN_MALE = (
    *("Alex", "Andy", "AnxiousAndy", "Denis", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Jacky", "Lee", "Marco"),
    *("Mario", "Michael", "Mike", "Mr serious", "Nguyen", "RicishayMax", "RicishayMax2", "RicishayMax3", "adam"),
    *("antonio", "benjamin", "boris", "caleb", "david", "edward", "edward2", "gustave", "iven", "iven2", "iven3"),
    *("iven4", "john", "m1", "m2", "m4", "m5", "m7", "m8", "marcelo", "max", "michel", "miguel", "norbert", "pablo"),
    *("pedro", "rob", "robert", "sandro", "shelby", "victor", "zac", "kaukovalta"),
)
TEST_FEMALE = ("Annie", "belinda", "f4", "linda")
TEST_MALE = ("m3", "m6", "travis", "quincy", "paul", "grandpa")


def _espeak(variant: str, accent: str, gender: Literal["female", "male"], split: Split) -> Voice:
    """A variant in an accent."""
    return Voice(
        name=f"espeak {accent} {variant}",
        speaker="espeak " + variant.rstrip("0123456789") if variant[1:2].isalpha() else "espeak " + variant,
        engine="espeak",
        split=split,
        gender=gender,
        model=f"{ACCENTS[accent]}+{variant}",
        speed=(0.78, 1.12),
        pitch=(35, 65),
    )


def _espeaks(variants: tuple[str, ...], gender: Literal["female", "male"], split: Split, each: int) -> list[Voice]:
    """Every variant in `each` accents, the accents dealt out in turn; the commoner ones come first."""
    accents = [*ACCENTS, "en-us", "en-gb"]
    return [
        _espeak(variant, accents[(each * number + turn) % len(accents)], gender, split)
        for number, variant in enumerate(variants)
        for turn in range(each)
    ]


ESPEAK = (
    *_espeaks(TRAIN_FEMALE, "female", "train", 4),
    *_espeaks(TRAIN_MALE, "male", "train", 2),
    *_espeaks(TEST_FEMALE, "female", "test", 2),
    *_espeaks(TEST_MALE, "male", "test", 1),
)
HUMAN = (
    Voice("flite kal16", "kal", "flite", "train", "male", "kal16", (0.85, 1.2), (88, 125)),
    Voice("festival kal", "kal", "festival", "train", "male", "kal_diphone", (0.85, 1.2), (88, 125)),
    Voice("flite awb", "awb", "flite", "train", "male", "awb", (0.85, 1.2), (0.85, 1.2)),
    Voice("flite slt", "slt", "flite", "train", "female", "slt", (0.85, 1.2), (0.85, 1.2)),
    Voice("festival slt", "slt", "festival", "train", "female", "cmu_us_slt_arctic_hts", (0.85, 1.2), (-2, 3)),
    Voice("festival kdl", "kdl", "festival", "train", "male", "ked_diphone", (0.85, 1.2), (88, 125)),
    Voice("flite rms", "rms", "flite", "test", "male", "rms", (0.95, 1.15), (0.95, 1.08)),
)
VOICES = (*HUMAN, *ESPEAK)


def voices(split: Split) -> tuple[tuple[Voice, ...], tuple[Voice, ...]]:
    """The voices of one side: those made from a person's recordings, and espeak-ng's."""
    return tuple(v for v in HUMAN if v.split == split), tuple(v for v in ESPEAK if v.split == split)
