"""What glm-tiny's tools are about: for each topic the names, keys and wordings that a tool may have.

The first of each list is the canonical form, which the evaluation uses. Training draws from the whole list,
so that the model reads a tool's schema instead of remembering it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from headrace_platform.catalog.tiny import names

Draw = Callable[[Random], Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    slot: str
    """Its place in the questions."""
    keys: tuple[str, ...]
    about: tuple[str, ...]
    draw: Draw
    type: str = "string"
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Topic:
    functions: tuple[str, ...]
    about: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    questions: tuple[str, ...]
    result: Draw


def _number(low: int, high: int) -> Draw:
    return lambda rng: rng.randint(low, high)


def _one_of(*values: str) -> Draw:
    return lambda rng: rng.choice(values)


LANGUAGES = ("French", "German", "Spanish", "Italian", "Chinese", "Japanese", "Polish", "Dutch")
CURRENCIES = ("USD", "EUR", "CNY", "GBP", "JPY", "CHF", "INR", "BRL")

_CITY = Parameter(
    "city",
    ("city", "location", "place", "city_name", "town"),
    ("City name", "The city", "Name of the city", "Where"),
    names.place,
)

TOPICS = (
    Topic(
        ("get_weather", "weather", "current_weather", "weather_lookup", "get_current_weather"),
        ("Get the current weather for a city", "Weather in a city", "Tells the weather at a place"),
        (_CITY,),
        (
            "What is the weather in {city}?",
            "What's the weather like in {city}?",
            "How is the weather in {city} today?",
            "Weather in {city}?",
            "Tell me the weather in {city}.",
            "Is it raining in {city}?",
            "Is it sunny in {city}?",
            "Do I need an umbrella in {city}?",
        ),
        lambda rng: f"{rng.choice(('sunny', 'rainy', 'cloudy', 'windy', 'foggy'))}, {rng.randint(0, 39)} C",
    ),
    Topic(
        ("get_time", "time", "local_time", "get_local_time", "clock"),
        ("Get the current local time in a city", "Local time in a city", "Tells what time it is at a place"),
        (_CITY,),
        (
            "What time is it in {city}?",
            "What is the time in {city}?",
            "Tell me the time in {city}.",
            "Current time in {city}?",
            "What is the local time in {city}?",
        ),
        lambda rng: f"{rng.randint(0, 23)}:{rng.randint(10, 59)}",
    ),
    Topic(
        ("get_population", "population", "population_of", "count_people"),
        ("Get the population of a city", "Population of a city", "Tells how many people live at a place"),
        (_CITY,),
        (
            "What is the population of {city}?",
            "How many people live in {city}?",
            "Population of {city}?",
            "How big is {city}?",
        ),
        lambda rng: f"{rng.randint(1, 39)} million",
    ),
    Topic(
        ("get_order_status", "order_status", "lookup_order", "track_order"),
        ("Get the status of an order", "Look up an order", "Where an order is"),
        (Parameter("order", ("order_id", "order", "id"), ("Order number", "The order"), names.code),),
        (
            "Where is my order {order}?",
            "What is the status of order {order}?",
            "Track order {order}.",
            "Look up order {order}.",
        ),
        _one_of("shipped", "delivered", "packed", "waiting"),
    ),
    Topic(
        ("get_stock_price", "stock_price", "quote", "lookup_stock"),
        ("Get the price of a stock", "Stock price by ticker", "Price of a share"),
        (Parameter("ticker", ("symbol", "ticker", "stock"), ("Ticker symbol", "The stock"), names.ticker),),
        (
            "What is the stock price of {ticker}?",
            "Price of {ticker} stock?",
            "How much is a share of {ticker}?",
            "Look up the stock {ticker}.",
        ),
        lambda rng: f"{rng.randint(1, 999)} USD",
    ),
    Topic(
        ("send_message", "message", "notify", "send_text"),
        ("Send a message to a person", "Message somebody", "Notify a person"),
        (
            Parameter("person", ("recipient", "to", "person"), ("Who gets it", "Name"), names.person),
            Parameter("words", ("text", "message", "body"), ("What to say", "The text"), names.invented_word),
        ),
        (
            "Send {person} the message {words}.",
            "Tell {person}: {words}",
            "Message {person} saying {words}.",
            "Send a message to {person}: {words}",
        ),
        _one_of("sent", "delivered", "ok"),
    ),
    Topic(
        ("convert_currency", "convert", "exchange", "currency"),
        ("Convert an amount of money", "Convert between currencies", "Exchange money"),
        (
            Parameter("amount", ("amount", "value"), ("How much", "Amount"), _number(1, 999), "integer"),
            Parameter("source", ("from", "source"), ("Currency code",), _one_of(*CURRENCIES)),
            Parameter("target", ("to", "target"), ("Currency code",), _one_of(*CURRENCIES)),
        ),
        (
            "Convert {amount} {source} to {target}.",
            "How much is {amount} {source} in {target}?",
            "What is {amount} {source} in {target}?",
            "Exchange {amount} {source} into {target}.",
        ),
        lambda rng: f"{rng.randint(1, 2000)}",
    ),
    Topic(
        ("set_timer", "timer", "start_timer", "countdown"),
        ("Set a timer", "Start a timer", "Rings after some minutes"),
        (Parameter("minutes", ("minutes", "duration"), ("Minutes", "How long"), _number(1, 180), "integer"),),
        (
            "Set a timer for {minutes} minutes.",
            "Start a timer of {minutes} minutes.",
            "Timer for {minutes} minutes.",
            "Remind me in {minutes} minutes.",
        ),
        _one_of("started", "ok"),
    ),
    Topic(
        ("translate", "translate_text", "translator"),
        ("Translate a word", "Translate into a language", "Says a word in another language"),
        (
            Parameter("words", ("text", "word"), ("What to translate", "The word"), names.invented_word),
            Parameter(
                "language",
                ("language", "target"),
                ("Into which language", "Language"),
                _one_of(*LANGUAGES),
                choices=LANGUAGES,
            ),
        ),
        (
            "Translate {words} into {language}.",
            "Translate {words} to {language}.",
            "What is {words} in {language}?",
            "How do you say {words} in {language}?",
        ),
        names.invented_word,
    ),
    Topic(
        ("find_route", "route", "directions", "plan_trip"),
        ("Find a route between two cities", "Directions from one place to another", "Plan a trip"),
        (
            Parameter("start", ("from", "start", "origin"), ("Start", "Where from"), names.place),
            Parameter("end", ("to", "end", "destination"), ("End", "Where to"), names.place),
        ),
        (
            "How do I get from {start} to {end}?",
            "Find a route from {start} to {end}.",
            "Directions from {start} to {end}?",
            "Plan a trip from {start} to {end}.",
        ),
        lambda rng: f"{rng.randint(2, 900)} km",
    ),
    Topic(
        ("search", "web_search", "find", "search_web"),
        ("Search the web", "Look something up", "Find pages about a subject"),
        (
            Parameter(
                "query", ("query", "q", "terms"), ("What to look for", "Search terms"), names.invented_name
            ),
        ),
        (
            "Search for {query}.",
            "Look up {query} on the web.",
            "Find pages about {query}.",
            "Search the web for {query}.",
        ),
        lambda rng: f"{rng.randint(1, 99)} pages",
    ),
    Topic(
        ("get_date", "date", "today", "current_date"),
        ("Get the date of today", "Tells which day it is", "The current date"),
        (),
        ("What is the date today?", "Which day is it?", "What day is today?", "Tell me the date."),
        lambda rng: f"{rng.randint(1, 28)} {rng.choice(('May', 'June', 'July', 'March'))}",
    ),
)
