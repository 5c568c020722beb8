"""How many values a body holds, told before any of them is made.

What must stay true: as far as a body is JSON it never tells fewer than a decoder makes; and what it needs itself is a few
times the body's bytes, whatever stands in it.
"""

VALUES_MAX = 2**19
"""A Python object for each takes a hundred bytes and more, and all else waits while they are made. No megabyte holds more."""

_MARKS = b'[{,"'
_OTHERS = bytes(set(range(256)).difference(_MARKS))


def holds_more_values(body: bytes, *, than: int = VALUES_MAX) -> bool:
    """Whether its arrays, objects and commas are more than that, those in strings not counted."""
    if len(body) <= 2 * than:
        return False  # a value and what parts it from the next, or ends it, are two bytes
    # A backslash stands for itself after another; one that is left makes a quotation mark a part of its string.
    marks = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_OTHERS)
    # Two quotation marks in a row are an empty string, or one's end and the next one's begin: nothing parts them.
    marks = marks.replace(b'""', b"")
    values = after = 0
    while values <= than:
        begin = marks.find(b'"', after)
        if begin < 0:
            return values + len(marks) - after > than
        values += begin - after
        after = marks.find(b'"', begin + 1) + 1
        if after == 0:
            return False  # a string without an end: the decoder comes no further either
    return True
