"""The language of the built-in corpus: what a team says when it talks a simulated emergency over.

A grammar of about 250 words: times, doses, vital signs, spelled names, roles, feedback. Words that sound like
another (to, for, by, an) and the article `a` are left out, so that a wrong word is always a heard one. Letters are
one-letter words, and only the letters of the names occur. `i` is the pronoun and the letter, which sound alike.
"""

import hashlib
import random
import re
from collections.abc import Iterator

NAMES = ("lee", "kim", "anna", "dan", "ben", "sam", "tom", "ella", "kate", "adam", "emma", "eli")

SHORTEST, LONGEST = 3, 12  # words

RULES: dict[str, tuple[str, ...]] = {
    "sentence": (
        *("{drug} {quantity} {given} at {time}", "{subject} gave {quantity} of {drug}"),
        *("give {quantity} of {drug} {when}", "{drug} {quantity} {route}", "{quantity} of {drug} every {few} minutes"),
        *("{subject} {should} given {drug} {sooner}", "{drug} was {given} {n} minutes {late}"),
        *("at {time} {subject} {did} {action}", "{subject} {did} {action} at {time}", "{time} {event}"),
        *("the {role} {did} {action} {sooner}", "the {event} came at {time}"),
        *("heart rate {rate} {now}", "blood pressure {rate} over {low}", "pulse {rate} and {steady}"),
        *("oxygen saturation {percent} percent {now}", "temperature {temperature}", "glucose is {n} point {digit}"),
        *("breathing rate {low} and pulse {rate}", "blood pressure {steady} {now}", "{patient} is {state}"),
        *("heart rate was {steady} at {time}", "saturation fell below {percent} percent", "{patient} looks {state}"),
        *("{my} name is {spelling}", "{role} {spelling}", "name {spelling}", "{patient} is called {spelling}"),
        *("{spelling} is {my} {role}", "{name} is the {role}", "{name} called the {role} at {time}"),
        *("{i} think {we} did well with {topic}", "{i} feel {topic} was {quality}", "{topic} went {well}"),
        *("{we} did {topic} {well}", "{we} can improve {topic}", "next time {we} {should} {verb} {topic} {sooner}"),
        *("{i} liked how {name} led {topic}", "{topic} and {topic} were {quality}", "{topic} needs more practice"),
        *("what went {well} with {topic}", "how did {name} feel about {topic}", "why was {topic} {quality}"),
        *("{name} {did} {action} and {i} {did} {action}", "{i} {felt} {quality} about {topic}"),
        *("{shock} {n} joules at {time}", "{shock} {big} joules and {resume}", "{count} compressions then {n} breaths"),
        *("{resume} {after} {few} minutes", "{name} {swap} {name} {after} {few} minutes", "rhythm check at {time}"),
        *("thank you {name} {quality} {job}", "{name} you were {quality}", "{yes} the {role} {did} {action}"),
        *("weight {weight} kilograms and age {age} years", "patient age {age} years", "{fluid} {volume} of {liquid}"),
    ),
    "i": ("i", "we", "they", "i", "you"),
    "we": ("we", "they", "you", "the team", "we all"),
    "subject": ("i", "we", "you", "they", "the {role}", "{name}", "{name}", "someone"),
    "my": ("my", "our", "your", "my"),
    "role": ("nurse", "doctor", "leader", "team leader", "surgeon", "student", "medic", "consultant", "porter"),
    "patient": ("the patient", "patient", "our patient", "she", "he"),
    "name": NAMES,
    "spelling": tuple(f"{name} spelled {' '.join(name)}" for name in NAMES),
    "did": ("checked", "started", "asked about", "called out", "missed", "secured", "found", "repeated", "stopped"),
    "verb": ("check", "plan", "improve", "practice"),
    "action": (
        *("the airway", "the rhythm", "the pulse", "compressions", "the monitor", "the cannula", "the dose"),
        *("the mask", "the tube", "the bleeding", "the blood", "the allergies", "the drip"),
    ),
    "event": ("cardiac arrest", "second shock", "first shock", "handover", "seizure", "pulse check"),
    "topic": (
        *("communication", "leadership", "teamwork", "the handover", "the airway", "closed loop communication"),
        *("the plan", "our roles", "the debrief", "compressions", "the first minutes", "situation awareness"),
    ),
    "quality": ("clear", "calm", "slow", "good", "great", "confident", "unsure", "loud", "very clear"),
    "well": ("well", "very well", "badly", "better", "really well"),
    "sooner": ("sooner", "earlier", "again", "faster", "together", "very late"),
    "late": ("late", "early", "very late", "very early"),
    "should": ("should have", "could have", "should not have", "must have"),
    "felt": ("felt", "was not", "am not", "am"),
    "state": ("stable", "not breathing", "pale", "confused", "not stable", "still confused", "very pale"),
    "steady": ("steady", "falling", "rising", "weak", "normal", "low", "high", "still low", "still high"),
    "now": ("now", "and {steady}", "and {steady} now", "at {time}", "{after} {few} minutes"),
    "after": ("after", "within", "after about"),
    "when": ("now", "at {time}", "{route}", "over {few} minutes", "again at {time}"),
    "given": ("given", "pushed", "given", "ready"),
    "route": ("into the vein", "through the mask", "into the vein", "through the drip"),
    "shock": ("shock", "deliver", "charge"),
    "resume": ("resume compressions", "stand clear", "continue compressions", "stand clear"),
    "swap": ("replaced", "helped"),
    "yes": ("yes", "no", "okay"),
    "job": ("work", "teamwork", "leadership", "work"),
    "fluid": ("hang", "give", "hang"),
    "liquid": ("saline", "glucose", "blood"),
    "drug": (
        *("adrenaline", "atropine", "morphine", "fentanyl", "ketamine", "heparin", "insulin", "amiodarone"),
        *("aspirin", "lorazepam"),
    ),
    "quantity": (
        *("{n} milligrams", "{round} milligrams", "{hundreds} micrograms", "{round} micrograms", "{n} millilitres"),
        *("{digit} point {digit} milligrams", "{digit} point {digit} millilitres", "{n} units", "half {measure}"),
        *("{digit} grams", "zero point {digit} milligrams", "one {measure}"),
    ),
    "measure": ("milligram", "litre"),
    "volume": ("{hundreds} millilitres", "{digit} litres", "half litre"),
    "weight": ("{tens} {digit}", "{tens}", "{n}"),
    "age": ("{tens} {digit}", "{tens}", "{n}"),
    "time": ("{hour} {minute}", "{hour} {tens_minute} {digit}", "{hour} oh {digit}", "oh {digit} {minute}"),
    "hour": ("ten", "eleven", "twelve", "{digit}", "thirteen", "fourteen", "sixteen", "eighteen", "twenty"),
    "minute": ("{teen}", "{tens_minute}", "hundred"),
    "tens_minute": ("twenty", "thirty", "forty", "fifty"),
    "digit": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "teen": (
        *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
        *("nineteen",),
    ),
    "tens": ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
    "n": ("{digit}", "{teen}", "{teen}", "{few}"),
    "few": ("two", "three", "four", "five", "ten"),
    "count": ("thirty", "fifteen"),
    "round": ("{tens}", "{digit} hundred", "{tens} {digit}"),
    "hundreds": ("{digit} hundred", "{digit} hundred and {tens}", "one hundred"),
    "big": ("two hundred", "one hundred and fifty", "three hundred and sixty", "one hundred and {tens}"),
    "rate": ("{tens} {digit}", "one hundred and {tens}", "one {teen}", "one {tens} {digit}", "{tens}"),
    "low": ("{tens}", "{tens} {digit}", "{teen}"),
    "percent": ("ninety {digit}", "eighty {digit}", "seventy {digit}", "one hundred", "ninety"),
    "temperature": ("thirty {digit} point {digit}", "thirty {digit} point {digit} {now}", "forty point {digit}"),
}

SLOT = re.compile(r"{(\w+)}")

VOCABULARY = tuple(sorted({word for rule in RULES.values() for form in rule for word in SLOT.sub("", form).split()}))
LETTERS = tuple(word for word in VOCABULARY if len(word) == 1)


def sentences(seed: int) -> Iterator[str]:
    """Sentences without end, the same for the same seed; they repeat now and then.

    Lower case, words and single spaces only, numbers in words, SHORTEST to LONGEST words.
    """
    rng = random.Random(seed)
    while True:
        text = _expand("sentence", rng)
        if SHORTEST <= len(text.split()) <= LONGEST:
            yield text


def part(text: str) -> str:
    """Where a text may be heard: `test` (one in ten), `shipped` (one in ten, the other shipped sets) or `corpus`.

    By the text's SHA-256 alone, so no list has to be kept and no text can be on two sides.
    """
    bucket = int(hashlib.sha256(text.encode()).hexdigest(), 16) % 10
    return {0: "test", 1: "shipped"}.get(bucket, "corpus")


def _expand(rule: str, rng: random.Random) -> str:
    """One form of a rule, its slots filled."""
    return SLOT.sub(lambda slot: _expand(slot[1], rng), rng.choice(RULES[rule]))
