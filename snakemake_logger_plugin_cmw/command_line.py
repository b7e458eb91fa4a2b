"""Which words of a command line are targets, although an option of several values stands before them."""

import argparse
import functools
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

IsValue = Callable[[str], bool]
_ENCODED = "base64//"
"""How Snakemake begins the values of pairs that it hands to processes of its own."""


def keep_targets_apart(parser_class: Any) -> None:
    """Let every parser of the class find targets behind options of several values."""
    parse = parser_class.parse_known_args

    @functools.wraps(parse)
    def parse_known_args(self: Any, args: Any = None, *rest: Any, **more: Any) -> Any:
        words, targets = split_targets(sys.argv[1:] if args is None else args, value_tests(self._actions))
        namespace, unknown = parse(self, words, *rest, **more)
        if targets:
            namespace.targets = [*namespace.targets, *targets]
        return namespace, unknown

    parser_class.parse_known_args = parse_known_args


def value_tests(actions: Iterable[argparse.Action]) -> dict[str, IsValue]:
    """For each option of several values that can be told from targets: whether a word is a value."""
    found: dict[str, IsValue] = {}
    for action in actions:
        test = _value_test(action)
        if action.nargs in ("+", "*") and test is not None:
            found |= dict.fromkeys(action.option_strings, test)
    return found


def _value_test(action: argparse.Action) -> IsValue | None:
    if "=" in str(action.metavar):
        return lambda word: "=" in word or word.startswith(_ENCODED)
    if action.choices is not None:
        return {str(choice) for choice in action.choices}.__contains__
    return None


def split_targets(words: Iterable[str], tests: dict[str, IsValue]) -> tuple[list[str], list[str]]:
    """The words without the targets that an option would take for its values, and those targets.

    >>> pairs = {"--resources": lambda word: "=" in word}
    >>> split_targets(["-n", "--resources", "gpu=4", "mem_mb=9", "results/table4.md"], pairs)
    (['-n', '--resources', 'gpu=4', 'mem_mb=9'], ['results/table4.md'])

    After ``--`` nothing is an option, and everything stays.
    """
    kept: list[str] = []
    targets: list[str] = []
    is_value: IsValue | None = None
    for number, word in enumerate(words := list(words)):
        if word == "--":
            return kept + words[number:], targets
        if word.startswith("-"):
            is_value = tests.get(_option(word))
        elif is_value is not None and not is_value(word):
            targets.append(word)
            continue
        kept.append(word)
    return kept, targets


def _option(word: str) -> str:
    """The option that takes the words after this one: of ``-nq`` it is ``-q``."""
    return f"-{word[-1]}" if re.fullmatch("-[A-Za-z]+", word) else word
