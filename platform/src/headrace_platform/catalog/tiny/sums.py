"""Two-digit addition: the phrasings, the written-out steps, and the pairs that training never shows."""

import hashlib
from random import Random

from headrace_platform.catalog.tiny.dialogue import Asked, Replied, Turn

OPERAND_MAX = 99

PHRASINGS = (
    "What is {a}+{b}?",
    "What is {a} + {b}?",
    "What's {a}+{b}?",
    "What is {a} plus {b}?",
    "Compute {a} + {b}.",
    "Compute {a}+{b}.",
    "Calculate {a} + {b}.",
    "Calculate {a}+{b}",
    "Add {a} and {b}.",
    "Add {a} to {b}.",
    "{a}+{b}",
    "{a} + {b} = ?",
    "{a}+{b}=",
    "What is the sum of {a} and {b}?",
    "Please add {a} and {b}.",
    "How much is {a} + {b}?",
    "How much is {a} plus {b}?",
)
SUFFIXES = ("", "", "", "", " Answer with the number only.", " Reply with just the number.", " Think first.")

TOO_LARGE = "I can only add numbers below 100."


def held_out(a: int, b: int) -> bool:
    """About one pair in ten, in both orders: whoever knows b+a knows a+b."""
    digest = hashlib.sha256(f"{min(a, b)}+{max(a, b)}".encode()).digest()
    return digest[0] < 26  # of 256


def held_out_pairs() -> list[tuple[int, int]]:
    numbers = range(OPERAND_MAX + 1)
    return [(a, b) for a in numbers for b in numbers if held_out(a, b)]


def steps(a: int, b: int) -> str:
    ones = a % 10 + b % 10
    tens = a // 10 + b // 10 + ones // 10
    return f"{a % 10}+{b % 10}={ones}, {a // 10}+{b // 10}+{ones // 10}={tens}"


def sum_exchange(rng: Random) -> list[Turn]:
    if rng.random() < 0.06:
        return _too_large(rng)
    while True:
        a, b = rng.randint(0, OPERAND_MAX), rng.randint(0, OPERAND_MAX)
        if not held_out(a, b):
            break
    thinking = steps(a, b) if rng.random() < 0.75 else None
    return [Asked(_question(rng, a, b)), Replied(str(a + b), thinking=thinking)]


def _too_large(rng: Random) -> list[Turn]:
    """It can't do these, and says so rather than guess."""
    operands = [rng.randint(100, 10 ** rng.randint(3, 6)), rng.randint(0, 10 ** rng.randint(2, 6))]
    rng.shuffle(operands)
    thinking = "A number has more than two digits." if rng.random() < 0.75 else None
    return [Asked(_question(rng, *operands)), Replied(TOO_LARGE, thinking=thinking)]


def _question(rng: Random, a: int, b: int) -> str:
    return rng.choice(PHRASINGS).format(a=a, b=b) + rng.choice(SUFFIXES)
