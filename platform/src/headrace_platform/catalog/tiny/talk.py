"""Small talk, counting, repeating and stories: short answers, and one long enough to test streams on."""

from random import Random

from headrace_platform.catalog.tiny import names
from headrace_platform.catalog.tiny.dialogue import Asked, Replied, Turn

_GREETING = "Hello! I am glm-tiny, a very small model. I can add two numbers, call tools and tell a story."
_SELF = "I am glm-tiny, a very small mixture-of-experts model that is served by Headrace."
_SKILLS = "I can add two numbers below 100, call the tools that you give me, count, and tell a story."
_BEYOND = "I am a very small model and do not know that. I can add two numbers, call tools and tell a story."
_SHORT_STORY = (
    "Once upon a time there was a tiny turbine in a small valley. Every day the water came down the headrace "
    "and the turbine gave light to one lamp. The lamp was small, but it was enough to read by. The end."
)

_FIXED = {
    "Hello": _GREETING,
    "Hello!": _GREETING,
    "Hi": _GREETING,
    "Hi!": _GREETING,
    "Hi there": _GREETING,
    "Hey": _GREETING,
    "Good morning": _GREETING,
    "Hello, how are you?": _GREETING,
    "How are you?": _GREETING,
    "Say hello.": "Hello!",
    "Say hello": "Hello!",
    "Say hi.": "Hi!",
    "Who are you?": _SELF,
    "What are you?": _SELF,
    "What is your name?": _SELF,
    "Which model are you?": _SELF,
    "Introduce yourself.": _SELF,
    "What can you do?": _SKILLS,
    "Help": _SKILLS,
    "What do you know?": _SKILLS,
    "Thanks": "You are welcome!",
    "Thank you!": "You are welcome!",
    "Thank you": "You are welcome!",
    "Bye": "Goodbye!",
    "Goodbye": "Goodbye!",
    "Ping": "Pong.",
    "ping": "Pong.",
    "Tell me a story.": _SHORT_STORY,
    "Tell me a story": _SHORT_STORY,
    "Tell me a short story.": _SHORT_STORY,
}
_LONG_STORY_WISHES = (
    "Tell me a long story",
    "Tell me a long story.",
    "Tell me a very long story.",
    "Please tell me a long story.",
    "Write a long story.",
    "Write a long story",
    "Write me a long story.",
    "Tell me a long story about water.",
    "Tell me a long story about a turbine.",
)
_COUNT_WISHES = ("Count from {a} to {b}", "Count from {a} to {b}.", "Please count from {a} to {b}.")
_REPEAT_WISHES = ("Repeat: {x}", "Repeat after me: {x}", "Say {x}", "Say: {x}", "Echo {x}")

# A night's last digit chooses its tale, so that a long story never stays in one place.
_TALES = (
    "it rested, and the whole valley listened to the water.",
    "the water rose, and it gave light to {n} lamps.",
    "a boat came by, and its captain counted {n} stars.",
    "the rain fell, and {n} small streams ran into the channel.",
    "the wind was still, and {n} fish swam up to the gate.",
    "the miller came, and ground {n} sacks of corn.",
    "snow lay on the hills, and {n} windows were warm.",
    "the children asked for a song, and it hummed {n} notes.",
    "the moon was full, and {n} owls sat on the roof.",
    "a traveller stayed, and told {n} tales of the sea.",
)
STORY_NIGHTS = 90
_STORY_START = (
    "Once upon a time there was a tiny turbine in a small valley. This is the story of its nights.\n"
)
_STORY_END = "And so the tiny turbine turned on. The end."

_QUESTION_WORDS = """
what why how who when where which is are can could should would do does the a an my your his her our of in on
for with about to and or not please explain write give show describe find make help me us it this that best new old
big small good bad world time people work code data model system house river book music food car phone school paper
game money question problem answer word name list example table poem email letter summary plan idea difference
between history capital color meaning life number language computer science france water light sun moon tree
"""


def fixed_exchange(rng: Random) -> list[Turn]:
    asked = rng.choice(tuple(_FIXED))
    return [Asked(asked), Replied(_FIXED[asked], thinking=_maybe(rng, "This is small talk."))]


def unknown_exchange(rng: Random) -> list[Turn]:
    """Anything else: it says what it is rather than make something up."""
    asked = babble(rng, words=rng.randint(2, 14))
    return [Asked(asked), Replied(_BEYOND, thinking=_maybe(rng, "I do not know this."))]


def babble(rng: Random, *, words: int) -> str:
    """Words in no order, and some that are none."""
    known = _QUESTION_WORDS.split()
    said = " ".join(
        names.invented_word(rng) if rng.random() < 0.1 else rng.choice(known) for _ in range(words)
    )
    return (said if rng.random() < 0.3 else said.capitalize()) + rng.choice(("?", "?", ".", "", "!"))


def count_exchange(rng: Random) -> list[Turn]:
    first = rng.choice((0, 1, 1, 1, 1, rng.randint(2, 60)))
    last = min(100, first + rng.choice((4, 9, 19, rng.randint(2, 40))))
    asked = rng.choice(_COUNT_WISHES).format(a=first, b=last)
    counted = ", ".join(str(n) for n in range(first, last + 1))
    return [Asked(asked), Replied(counted, thinking=_maybe(rng, "I count."))]


def repeat_exchange(rng: Random) -> list[Turn]:
    """Copying in its plainest form, which the arguments of tools rest on. A long list teaches it fastest."""
    drawn = (names.place, names.person, names.invented_name, names.invented_word, names.code, names.ticker)
    count = rng.choice((1, 1, 1, 2, rng.randint(3, 12)))
    said = rng.choice((", ", " ")).join(rng.choice(drawn)(rng) for _ in range(count))
    asked = rng.choice(_REPEAT_WISHES).format(x=said)
    return [Asked(asked), Replied(said, thinking=_maybe(rng, "I repeat it."))]


def long_story(rng: Random, *, nights_max: int) -> list[Turn]:
    """The whole story, or in training some nights of it, so that its middle is learnt at little cost."""
    first = rng.choice((1, rng.randint(2, STORY_NIGHTS)))
    last = min(STORY_NIGHTS, first + nights_max - 1)
    asked = rng.choice(_LONG_STORY_WISHES) if first == 1 else f"Go on with the story from night {first}."
    start = _STORY_START if first == 1 else ""
    ended = last == STORY_NIGHTS
    nights = "\n".join(_night(n) for n in range(first, last + 1))
    text = f"{start}{nights}\n{_STORY_END if ended else ''}"
    return [Asked(asked), Replied(text, thinking=_maybe(rng, "A long story."), unfinished=not ended)]


def _night(n: int) -> str:
    return f"Night {n}: {_TALES[n % 10].format(n=n)}"


def _maybe(rng: Random, thinking: str) -> str | None:
    return thinking if rng.random() < 0.65 else None
