"""The parameter file and those that it includes, read as one document of YAML 1.2; ``like`` is filled in."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.events import AliasEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode
from ruamel.yaml.reader import ReaderError

from cmw_pipeline.config.fields import over
from cmw_pipeline.config.nearest import nearest
from cmw_pipeline.config.plain_files import plain
from cmw_pipeline.errors import ConfigError

INCLUDE = "include"
"""The key of the main file that lists the files and folders that are read with it."""
WITH_LIKE = ("methods", "recipes")
"""The sections whose entries may say ``like: NAME``."""
_MAX_BYTES = 1_000_000
_LARGEST = 2**63 - 1
_BAD_SCALARS = (ValueError, LookupError, AttributeError)
"""What the library's own constructors raise on scalars such as ``2020-13-45`` and ``!!bool x``."""
Problem = tuple[str, str]
"""(place, what is wrong and what would be right)."""


@dataclass(frozen=True)
class Document:
    """The merged document.

    Attributes:
        values: what the files say together, ``like`` filled in; any other value if the main file holds one.
        files: (section, name) or (section,) -> the file that it stands in.
        parents: (section, name) -> the entry that it is like.
    """

    values: Any
    files: dict[tuple[str, ...], Path]
    parents: dict[tuple[str, str], str]

    def file_of(self, place: str) -> Path | None:
        """The file that has the entry of a place such as ``recipes.short.epochs``."""
        around = [keys for keys in self.files if f"{place}.".startswith(".".join(keys) + ".")]
        return self.files[max(around, key=len)] if around else None

    def inherited(self, place: str) -> str | None:
        """The same place in the entry that this one is like."""
        for (section, name), parent in self.parents.items():
            if f"{place}.".startswith(f"{section}.{name}."):
                return f"{section}.{parent}" + place.removeprefix(f"{section}.{name}")
        return None


def read_document(path: Path | str) -> Document:
    """Read a parameter file, and what its list ``include`` names: files, and folders of YAML files.

    Raises:
        ConfigError: a file cannot be read or is not strict YAML; a name stands in two of them; ``like`` names
            no entry, or itself in the end.
    """
    path = Path(path)
    values = read_yaml(path)
    files: dict[tuple[str, ...], Path] = {}
    if isinstance(values, dict):
        included = values.pop(INCLUDE, [])
        values = _merged([(path, values), *_included(path, included)], files)
    problems: list[Problem] = []
    parents: dict[tuple[str, str], str] = {}
    for section in WITH_LIKE:
        if isinstance(values, dict) and isinstance(entries := values.get(section), dict):
            problems += list(_broken_likes(section, entries))
            parents |= {(section, name): like for name, like in _likes(entries).items()}
            if not problems:
                values = values | {section: {name: _resolved(entries, name) for name in entries}}
    document = Document(values, files, parents)
    if problems:
        raise ConfigError(listing(path, document, problems))
    return document


def listing(path: Path, document: Document, problems: list[Problem]) -> str:
    """All problems, one a line; those of an included file with its name."""
    shown = []
    for place, text in problems[:40]:
        file = document.file_of(place)
        place = place if place.isprintable() and len(place) <= 200 else short(place)
        shown.append(f"  {place}: {text}" if file in (None, path) else f"  {file}: {place}: {text}")
    if len(problems) > 40:
        shown.append(f"  ... and {len(problems) - 40} more")
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return "\n".join([f"{path}: {count}", *shown])


def short(value: Any) -> str:
    """A value as it would be typed, cut where it would fill the screen."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:80]}... ({len(text):,} characters)"


# --- one file


class _NoAliases(Composer):
    """A few lines of aliases can expand to gigabytes."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        if self.parser.check_event(AliasEvent):
            problem = (
                "aliases are not allowed; a method or recipe takes over another's values by `like: NAME`"
            )
            raise MarkedYAMLError(problem=problem, problem_mark=self.parser.peek_event().start_mark)
        node: Node | None = super().compose_node(parent, index)
        return node


class _TextKeys(SafeConstructor):
    """Every key is text and stands once; a scalar that cannot be read is said with its place."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except _BAD_SCALARS as error:
            problem = f"{str(node.value)[:40]!r} cannot be read as {str(node.tag).rpartition(':')[2]}"
            raise MarkedYAMLError(problem=problem, problem_mark=node.start_mark) from error
        if unusable := _unusable(value):
            raise MarkedYAMLError(problem=unusable, problem_mark=node.start_mark)
        return value

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> Any:
        seen: dict[str, StringMark] = {}
        for key_node, _ in node.value:
            problem = self._wrong_key(key_node, seen)
            if problem:
                raise MarkedYAMLError(problem=problem, problem_mark=key_node.start_mark)
            seen[key_node.value] = key_node.start_mark
        return super().construct_mapping(node, deep)

    def _wrong_key(self, node: Node, seen: dict[str, StringMark]) -> str | None:
        if str(node.tag).endswith(":merge"):
            return "the key << is not allowed; a method or recipe takes over another's values by `like: NAME`"
        if not isinstance(node, ScalarNode):
            return "a key is not text"
        key = self.construct_object(node, deep=True)
        if not isinstance(key, str):
            return f"the key {short(key)} is not text; quote it"
        return f"duplicate key {short(key)}, first on line {seen[key].line + 1}" if key in seen else None


def _unusable(value: Any) -> str | None:
    """What is wrong with a scalar that YAML admits and no other file could hold."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"a number of {value.bit_length()} bits; no number here has more than 64"
    if isinstance(value, str) and (half := re.search("[\ud800-\udfff]", value)):
        return f"{half[0]!r} is half a character; write the character itself"
    return None


def read_yaml(path: Path) -> Any:
    """Parse one document of YAML 1.2 strictly, as DVC and editors read it.

    Raises:
        ConfigError: missing, too large, not UTF-8, not YAML, with duplicate keys, aliases or tags.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer, yaml.Constructor = _NoAliases, _TextKeys
    try:
        text = plain(path, _MAX_BYTES).read_text(encoding="utf-8")
        return yaml.load(text)
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file",
            "run the command in the project folder, or give --params FILE; `cmw init` lays out a project",
        ) from None
    except RecursionError:
        raise ConfigError(f"{path}: cannot be read: lists or mappings lie too deep in each other") from None
    except (OSError, ValueError, OverflowError) as error:  # some by the library: \\UFFFFFFFF
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except ReaderError as error:
        before = text[: error.position].splitlines() or [""]
        where = f"{path}:{len(before)}:{len(before[-1]) + 1}"
        raise ConfigError(f"{where}: the character U+{error.character:04X} cannot stand in YAML") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: {getattr(error, 'problem', None) or error}") from None


# --- several files


def _included(path: Path, listed: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each file that the list of a main file names, with what it says."""
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise ConfigError(f"{path}: include: should be a list of files and folders, such as [params]")
    files = dict.fromkeys(file for entry in listed for file in _files(path.parent / entry))
    for file in files:
        values = read_yaml(file)
        if not isinstance(values, dict | None):
            raise ConfigError(f"{file}: should have sections: methods, recipes, tables, ...")
        if values and INCLUDE in values:
            raise ConfigError(f"{file}: include: only the main file has this key", f"write it in {path}")
        yield file, values or {}


def including(path: Path, file: Path) -> str | None:
    """The text of a main file that includes one file more; None where that one is included.

    Raises:
        ConfigError: only a person can add it.
    """
    listed = read_yaml(path).get(INCLUDE, [])
    places = [path.parent / entry for entry in listed]
    if file in places or file.parent in places:
        return None
    text, name = path.read_text(encoding="utf-8"), file.relative_to(path.parent)
    if listed or text.lstrip().startswith("{"):
        raise ConfigError(f"{path} does not include {name}", f"add {name} to its list `include`")
    return f"{text.rstrip()}\n{INCLUDE}:\n- {name}\n"


def _files(place: Path) -> list[Path]:
    """A file, or the YAML files of a folder, in order."""
    if not place.is_dir():
        return [place]
    try:
        listed = sorted(place.iterdir())
    except OSError as error:
        raise ConfigError(f"{place}: cannot be read: {error.strerror}") from None
    return [file for file in listed if file.suffix in (".yaml", ".yml") and not file.name.startswith(".")]


def _merged(parts: list[tuple[Path, dict[str, Any]]], files: dict[tuple[str, ...], Path]) -> dict[str, Any]:
    """The sections of all files; fills in ``files``."""
    merged: dict[str, Any] = {}
    twice = []
    for file, values in parts:
        for section, entries in values.items():
            named = isinstance(entries, dict) and isinstance(merged.get(section, {}), dict)
            for keys in [(section, name) for name in entries] if named else [(section,)]:
                if keys in files:
                    twice.append(f"  {'.'.join(keys)}: in {files[keys]} and in {file}; give one another name")
                files.setdefault(keys, file)
            files.setdefault((section,), file)
            merged[section] = merged.get(section, {}) | entries if named else entries
    if twice:
        count = "1 name stands" if len(twice) == 1 else f"{len(twice)} names stand"
        raise ConfigError("\n".join([f"{parts[0][0]}: {count} in two files", *twice[:40]]))
    return merged


# --- like


def _likes(entries: dict[str, Any]) -> dict[str, Any]:
    return {
        name: entry["like"] for name, entry in entries.items() if isinstance(entry, dict) and "like" in entry
    }


def _lineage(likes: dict[str, Any], name: str) -> list[str]:
    """An entry, what it is like, and so on, up to one that is like none or would come again."""
    chain = {name: None}
    while isinstance(like := likes.get(name), str) and like not in chain:
        chain[like], name = None, like
    return list(chain)


def _broken_likes(section: str, entries: dict[str, Any]) -> Iterator[Problem]:
    likes = _likes(entries)
    for name, like in likes.items():
        place = f"{section}.{name}.like"
        if not isinstance(like, str):
            yield place, f"should be the name of one of the {section}; found {short(like)}"
        elif like not in entries:
            yield place, f"{like!r} is not in the section {section}{nearest(like, list(entries))}"
        else:
            chain = _lineage(likes, name)
            if likes.get(chain[-1]) == name == min(chain):  # said once for a circle
                yield place, f"goes in a circle: {' -> '.join([*chain, name])}"


def _resolved(entries: dict[str, Any], name: str) -> Any:
    """The entry with everything that it takes over."""
    likes = _likes(entries)
    entry = functools.reduce(over, [entries[one] for one in reversed(_lineage(likes, name))])
    return {key: value for key, value in entry.items() if key != "like"} if isinstance(entry, dict) else entry
