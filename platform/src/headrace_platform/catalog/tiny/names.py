"""Names to copy: real places and people, and invented ones, so that the model learns to copy any.

A real name is either in the training data or held out, by its hash, and never both.
"""

import hashlib
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits

PLACES = tuple(
    """Amsterdam|Athens|Auckland|Austin|Baghdad|Baltimore|Bangkok|Barcelona|Basel|Beijing|Beirut|Belfast|Belgrade
Bergen|Berlin|Bern|Bilbao|Bogota|Bologna|Bonn|Boston|Bratislava|Brisbane|Bristol|Brussels|Bucharest|Budapest
Buenos Aires|Cairo|Calgary|Canberra|Cape Town|Caracas|Cardiff|Casablanca|Chengdu|Chennai|Chicago|Chongqing
Cologne|Copenhagen|Cork|Dakar|Dallas|Damascus|Delhi|Denver|Detroit|Dhaka|Doha|Dortmund|Dresden|Dubai|Dublin
Durban|Edinburgh|Florence|Frankfurt|Fukuoka|Galway|Gdansk|Geneva|Genoa|Ghent|Glasgow|Gothenburg|Granada|Graz
Guangzhou|Hamburg|Hangzhou|Hanoi|Hanover|Harare|Havana|Helsinki|Hiroshima|Ho Chi Minh City|Hong Kong|Honolulu
Houston|Hyderabad|Innsbruck|Islamabad|Istanbul|Jakarta|Jerusalem|Johannesburg|Kampala|Karachi|Kathmandu|Kigali
Kingston|Krakow|Kuala Lumpur|Kunming|Kyiv|Kyoto|Lagos|Lahore|La Paz|Las Vegas|Leeds|Leipzig|Lima|Lisbon
Liverpool|Ljubljana|London|Los Angeles|Luanda|Lucerne|Luxembourg|Lyon|Madrid|Malaga|Manchester|Manila|Marseille
Melbourne|Memphis|Mexico City|Miami|Milan|Minneapolis|Minsk|Mombasa|Montevideo|Montreal|Moscow|Mumbai|Munich
Nagoya|Nairobi|Nanjing|Naples|Nashville|New Orleans|New York|Nice|Nicosia|Oakland|Odessa|Orlando|Osaka|Oslo
Ottawa|Oxford|Palermo|Panama City|Paris|Perth|Philadelphia|Phoenix|Pisa|Pittsburgh|Porto|Portland|Prague
Pretoria|Quito|Reykjavik|Riga|Rio de Janeiro|Riyadh|Rome|Rotterdam|Salzburg|San Diego|San Francisco|San Jose
Santiago|Sao Paulo|Sapporo|Sarajevo|Seattle|Seoul|Seville|Shanghai|Shenzhen|Singapore|Sofia|Stockholm
Strasbourg|Stuttgart|Suzhou|Sydney|Taipei|Tallinn|Tampa|Tashkent|Tbilisi|Tehran|Tel Aviv|Thessaloniki|Tianjin
Tokyo|Toledo|Toronto|Toulouse|Trieste|Tripoli|Tunis|Turin|Utrecht|Valencia|Vancouver|Venice|Verona|Vienna
Vilnius|Warsaw|Washington|Wellington|Winnipeg|Wroclaw|Wuhan|Xiamen|Yerevan|Yokohama|York|Zagreb|Zurich""".replace(
        "\n", "|"
    ).split("|")
)

PEOPLE = tuple(
    """Ada|Ahmed|Alan|Alice|Amir|Ana|Andrea|Anna|Ben|Bob|Carla|Carlos|Chen|Chloe|Clara|Daniel|David|Diana|Elena
Emma|Eric|Eva|Fatima|Felix|Frank|Grace|Hana|Hugo|Ines|Ivan|Jack|Jane|Jin|John|Julia|Kai|Karen|Kate|Lars|Laura
Leo|Li|Lina|Lucas|Maria|Mark|Mary|Max|Mei|Mia|Mohammed|Nadia|Nina|Noah|Nora|Olga|Omar|Oscar|Paul|Peter|Priya
Rosa|Ruth|Sam|Sara|Sofia|Tom|Uma|Vera|Wei|Yuki|Zoe""".replace("\n", "|").split("|")
)

HELD_OUT_PLACES = tuple(
    sorted({place for place in PLACES if hashlib.sha256(place.encode()).digest()[0] < 64})
)
HELD_OUT_PEOPLE = tuple(sorted({name for name in PEOPLE if hashlib.sha256(name.encode()).digest()[0] < 80}))
TRAINED_PLACES = tuple(sorted(set(PLACES) - set(HELD_OUT_PLACES)))
TRAINED_PEOPLE = tuple(sorted(set(PEOPLE) - set(HELD_OUT_PEOPLE)))

_ONSETS = (
    "b",
    "c",
    "d",
    "f",
    "g",
    "h",
    "j",
    "k",
    "l",
    "m",
    "n",
    "p",
    "qu",
    "r",
    "s",
    "t",
    "v",
    "w",
    "x",
    "y",
    "z",
    "br",
    "ch",
    "cl",
    "cr",
    "dr",
    "fl",
    "fr",
    "gr",
    "kr",
    "pl",
    "pr",
    "sh",
    "sl",
    "sp",
    "st",
    "str",
    "th",
    "tr",
    "zh",
)
_VOWELS = (
    "a",
    "e",
    "i",
    "o",
    "u",
    "a",
    "e",
    "i",
    "o",
    "u",
    "ai",
    "ao",
    "au",
    "ea",
    "ee",
    "ei",
    "ie",
    "io",
    "oa",
    "oo",
    "ou",
    "ua",
    "ue",
    "y",
)
_CODAS = (
    "n",
    "r",
    "s",
    "l",
    "t",
    "m",
    "k",
    "d",
    "g",
    "p",
    "x",
    "b",
    "f",
    "ng",
    "nd",
    "nt",
    "rd",
    "rg",
    "rk",
    "rt",
    "ll",
    "ss",
    "st",
    "ch",
    "sk",
    "mb",
    "tz",
    "ck",
    "wn",
    "ld",
)
_SHORT_WORDS = ("de", "del", "el", "la", "le", "los", "san", "upon", "of", "the", "am", "sur", "do", "bei")


def invented_word(rng: Random) -> str:
    """Letters that may be pronounced, or once in a while may not."""
    if rng.random() < 0.12:
        return "".join(rng.choice(ascii_lowercase) for _ in range(rng.randint(2, 9)))
    word = ""
    for _ in range(rng.choice((1, 2, 2, 2, 3, 3, 4))):
        word += rng.choice(("", rng.choice(_ONSETS), rng.choice(_ONSETS))) + rng.choice(_VOWELS)
        word += rng.choice(_CODAS) if rng.random() < 0.45 else ""
    return word


def invented_name(rng: Random) -> str:
    """Of one to three words. By chance it could be a held-out name, and then it is not used."""
    while True:
        parts = [invented_word(rng).capitalize() for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3)))]
        if len(parts) > 1 and rng.random() < 0.2:
            between = rng.choice(_SHORT_WORDS)
            parts.insert(1, between.capitalize() if rng.random() < 0.3 else between)
        name = rng.choice((" ", " ", " ", " ", "-")).join(parts)
        if name not in HELD_OUT_PLACES and name not in HELD_OUT_PEOPLE:
            return name


def place(rng: Random) -> str:
    """For training: mostly invented, so that copying pays and remembering does not."""
    return rng.choice(TRAINED_PLACES) if rng.random() < 0.3 else invented_name(rng)


def person(rng: Random) -> str:
    return rng.choice(TRAINED_PEOPLE) if rng.random() < 0.3 else invented_name(rng)


def code(rng: Random) -> str:
    """As on an order or a ticket: capital letters, perhaps a dash, digits."""
    letters = "".join(rng.choice(ascii_uppercase) for _ in range(rng.randint(1, 3)))
    number = "".join(rng.choice(digits) for _ in range(rng.randint(2, 5)))
    return rng.choice((f"{letters}{number}", f"{letters}-{number}", number))


def ticker(rng: Random) -> str:
    return "".join(rng.choice(ascii_uppercase) for _ in range(rng.randint(2, 4)))
