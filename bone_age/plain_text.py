"""Text that people typed or that somebody wrote into a tag, before it reaches a terminal or the ledger.

A newline in a reason could forge the next line of `bone-age history`, an escape sequence could hide one.
"""

from __future__ import annotations

import unicodedata

_BREAKS = ("Zl", "Zp")
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0\u2800"  # fillers that count as letters or symbols and show nothing


def on_one_line(text: str) -> str:
    r"""The same with everything that would not show as itself written out: `\n`, `\x1b`, `\u202e`."""
    return "".join(_written_out(character) if is_hidden(character) else character for character in text)


def is_hidden(character: str) -> bool:
    """Is it a control or format character, half a surrogate, unassigned, or another kind of line break?"""
    category = unicodedata.category(character)
    return category.startswith("C") or category in _BREAKS


def is_blank(text: str) -> bool:
    """Does nothing of it show?"""
    return all(unicodedata.category(c)[0] in "CZM" or c in _BLANK_LETTERS for c in text)


def _written_out(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
