"""What a client may send where a value belongs: as JSON, and where it differs, as a GraphQL literal."""

from collections.abc import Iterator
from typing import Any

DEEP = 100_000

NO_NUMBERS: dict[str, str] = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "1e999": "1e999",
    "-1e999": "-1e999",
    "NaN in quotes": '"NaN"',
    "a number in quotes": '"1"',
    "10^400": "1" + "0" * 400,
    "10^5000": "1" + "0" * 5000,
    "hexadecimal": "0x10",
    "true": "true",
    "null": "null",
    "a string": '"x"',
    "an empty list": "[]",
    "a list of itself": "[1]",
    "an object": "{}",
    "NUL": '"\\u0000"',
    "half a surrogate pair": '"\\ud800"',
    "the other half": '"\\udfff x"',
}
"""None of them may stand for a number."""

OUT_OF_RANGE: dict[str, str] = {
    "1e308": "1e308",
    "-1e308": "-1e308",
    "2^53+1": "9007199254740993",
    "2^63": "9223372036854775808",
    "-2^63-1": "-9223372036854775809",
}
"""Numbers that are beyond every range of this product."""

NUMBERS: dict[str, str] = {"-0": "-0", "-0.0": "-0.0", "1e-320": "1e-320", "0.1 in many digits": "0." + "1" * 400}
"""Unusual, and allowed where their value is."""

NO_JSON: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "no text": b"\xff\xfe\xfd",
    "half a letter": b'{"x": "\xc3"}',
    "a surrogate as bytes": b'{"x": "\xed\xa0\x80"}',
    "only a mark": b"\xef\xbb\xbf",
    "NUL": b"\x00",
    "an open bracket": b"[" * DEEP,
    "an open brace": b'{"a":' * DEEP,
    "a comment": b"/* x */ {}",
    "two documents": b"{} {}",
    "an open string": b'{"a": "',
}

SHAPES: dict[str, bytes] = {
    "null": b"null",
    "a number": b"1",
    "a string": b'"x"',
    "true": b"true",
    "an empty list": b"[]",
    "a list": b"[1]",
    "an empty object": b"{}",
    "a deep list": b"[" * DEEP + b"]" * DEEP,
    "a deep object": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "the same key twice": b'{"player_units": [], "player_units": null}',
    "many keys": b"{" + b",".join(b'"k%d":1' % number for number in range(20_000)) + b"}",
    "a surrogate as a key": b'{"\\ud800": 1}',
}
"""JSON that is none of the objects that any endpoint takes."""

STRINGS: dict[str, str] = {
    "an empty string": '""',
    "NUL": '"\\u0000"',
    "a line break": '"a\\r\\nb"',
    "half a surrogate pair": '"\\ud800"',
    "a long string": '"' + "x" * 20_000 + '"',
    "a letter of four bytes": '"\U0001d4d0"',
    "digits of another script": '"\u0661\u0662"',
    "null": "null",
    "a number": "1",
    "NaN": "NaN",
    "true": "true",
    "a list": "[]",
    "an object": "{}",
}
"""For where a string belongs; some of them may be taken."""


def leaves(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Return every value of a document that is neither an object nor a list, with the path to it."""
    match document:
        case dict():
            for name, value in document.items():
                yield from leaves(value, (*path, name))
        case list():
            for index, value in enumerate(document):
                yield from leaves(value, (*path, index))
        case _:
            yield path, document


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """Return a copy of a document with another value at a path."""
    if not path:
        return value
    copy = document.copy()
    copy[path[0]] = replaced(document[path[0]], path[1:], value)
    return copy
