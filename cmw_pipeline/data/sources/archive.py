"""Datasets of arrays that are published as archives or plain files: fetched, or at hand."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from pkgutil import resolve_name

from cmw_pipeline.config.datasets import DatasetFacts
from cmw_pipeline.config.origins import Archive, Archives
from cmw_pipeline.data.raw import write_raw
from cmw_pipeline.data.sources.asked import Asked, Notes
from cmw_pipeline.errors import ConfigError, IntegrityError
from cmw_pipeline.io.archives import SIZE_CAP, read_members, top_folder
from cmw_pipeline.io.atomic import system_faults
from cmw_pipeline.io.download import fetch

Form = tuple[Archive, ...]
"""All files of one published form."""


def write(facts: DatasetFacts, origin: Archives, form: str | None, asked: Asked) -> Notes:
    """Write the arrays that the dataset's reader makes of the published files.

    Raises:
        ConfigError: nothing of the dataset is at ``asked.local``.
        IntegrityError: the bytes are not the published ones, or not a dataset.
        SystemFault: no mirror can be reached, or a file cannot be read or written.
    """
    if asked.local is None:
        published = origin.forms[form or next(iter(origin.forms))]
        files, notes = _fetched(published, asked.downloads)
    else:
        files, notes = _at_hand(list(origin.forms.values()), asked.local, asked)
    read = resolve_name(f"cmw_pipeline.data.{origin.reader}")
    write_raw(asked.out, *read(facts, files))
    return notes


def _fetched(form: Form, downloads: Path) -> tuple[dict[str, bytes], Notes]:
    files: dict[str, bytes] = {}
    origins = []
    for archive in form:
        file = downloads / archive.name
        origins.append(fetch(archive.urls, archive.sha256, file, begins=archive.begins))
        files |= _content(archive, file)
    return files, {"origin": ", ".join(origins), "verified": True}


def _at_hand(forms: list[Form], local: Path, asked: Asked) -> tuple[dict[str, bytes], Notes]:
    """The wanted files at ``local``, which is one archive or a folder with all files."""
    if local.is_dir():
        form, files = _in_folder(forms, local)
    elif local.is_file():
        form, files = _in_archive(forms, local)
    else:
        raise ConfigError(f"{local}: no such file or folder")
    hashes = {name: digest for archive in form for name, (_, digest) in archive.members.items()}
    differing = [name for name, data in files.items() if not _published(data, hashes[name])]
    problem = f"not the published files, by their hashes: {', '.join(differing)}" if differing else None
    notes = asked.verified(local, problem)
    if differing:
        notes["unverified_files"] = differing
    return files, notes | {"origin": local.resolve().name}


def _in_folder(forms: Iterable[Form], local: Path) -> tuple[Form, dict[str, bytes]]:
    """The first form of which something lies in the folder, or in the archive's own folder inside it."""
    wanted = []
    for form in forms:
        for nested in (False, True):
            places = _places(form, local, nested=nested)
            if any(place.is_file() for place in places):
                return form, {place.name: _read(place, size) for place, size in places.items()}
        wanted.append(" of ".join(filter(None, (next(iter(form[0].members)), form[0].folder))))
    raise ConfigError(f"{local}: none of the dataset's files is here; looked for {' or '.join(wanted)}")


def _places(form: Form, local: Path, *, nested: bool) -> dict[Path, int | None]:
    """Where the wanted files are looked for -> their sizes."""
    return {
        (local / archive.folder if nested else local) / name: size
        for archive in form
        for name, (size, _) in archive.members.items()
    }


def _in_archive(forms: Iterable[Form], file: Path) -> tuple[Form, dict[str, bytes]]:
    """One archive that is a whole form; a form of several files is read from their folder."""
    whole = {form[0].folder: form for form in forms if len(form) == 1 and form[0].folder}
    if not whole:
        raise ConfigError(f"{file}: the dataset is several files; name the folder that holds them")
    folder = top_folder(file)
    if folder not in whole:
        raise IntegrityError(f"{file}: holds the folder {folder!r}; expected {' or '.join(whole)}")
    return whole[folder], _content(whole[folder][0], file)


def _content(archive: Archive, file: Path) -> dict[str, bytes]:
    """Name -> content of the wanted files in an archive, or of the plain file itself."""
    if archive.folder:
        return read_members(file, archive.folder, archive.members, archive.beside)
    ((name, (size, _)),) = archive.members.items()
    return {name: _read(file, size)}


def _read(file: Path, size: int | None) -> bytes:
    if not file.is_file():
        raise IntegrityError(f"{file}: missing")
    found = file.stat().st_size
    if size is not None and found != size:
        raise IntegrityError(f"{file}: {found} bytes; expected {size}")
    if size is None and found > SIZE_CAP:
        raise IntegrityError(f"{file}: {found} bytes; at most {SIZE_CAP} are read")
    with system_faults(file):
        return file.read_bytes()


def _published(data: bytes, expected: str | None) -> bool:
    if expected is None:
        return False
    kind, _, digest = expected.partition(":")
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest() == digest
