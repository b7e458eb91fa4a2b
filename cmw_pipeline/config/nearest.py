"""The name that a mistyped one was meant to be."""

import difflib
from collections.abc import Iterable


def nearest(wrong: str, known: list[str]) -> str:
    """The advice that ends a line about a name that is not there."""
    match = closest(wrong, known)
    return f"; did you mean {match!r}?" if match else f"; there are: {', '.join(sorted(known)) or 'none'}"


def closest(wrong: str, known: Iterable[str]) -> str | None:
    """The one of the known names that a wrong one resembles most, whatever their case; None if none does.

    >>> closest("CMW-Nte", ["erm", "cmw-net", "mw-net"])
    'cmw-net'
    """
    folded = {name.casefold(): name for name in known}
    match = difflib.get_close_matches(wrong.casefold(), folded, n=1)
    return folded[match[0]] if match else None
