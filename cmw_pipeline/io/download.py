"""Fetching a published file: mirrors, resume, and one hash that decides."""

import contextlib
import hashlib
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException, HTTPMessage, HTTPResponse
from itertools import chain
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from filelock import FileLock

from cmw_pipeline.errors import IntegrityError, SystemFault
from cmw_pipeline.io.atomic import system_faults

_log = logging.getLogger(__name__)
_TIMEOUT = 20.0
"""Seconds without a byte after which a mirror counts as silent."""
_CHUNK = 1 << 16
_PASSING_STATUS = frozenset({408, 429, 500, 502, 503, 504})
"""Answers that another attempt may turn into a file."""


class _Refused(Exception):
    """The mirror will not give the file, however often it is asked."""


class _Interrupted(Exception):
    """The mirror may give the file, or the rest of it, when asked again."""


class _Changed(_Refused):
    """The answer does not continue what was kept: worth asking for the whole, once."""


@dataclass(frozen=True)
class _Origin:
    """Where the kept beginning of a file came from, and how long the whole was said to be."""

    url: str
    etag: str | None
    size: int | None


def fetch(
    urls: Sequence[str],
    sha256: str,
    dest: Path,
    *,
    begins: bytes = b"",
    retries: int = 3,
    wait: float = 1.0,
) -> str:
    """Fetch a file into ``dest``, unless it lies there already.

    The bytes arrive in ``dest`` + ``.part``, which an interrupted fetch leaves behind and the next one
    continues; ``dest`` itself appears whole, after its hash was checked. Two processes that fetch the
    same file take turns, and the second finds it there.

    Args:
        urls: mirrors of one file, asked in this order.
        sha256: the published hash in hex digits.
        dest: where the file goes; missing folders are made.
        begins: its first bytes; an answer that begins otherwise, such as a login page, is no answer.
        retries: how often each mirror is asked before it is given up.
        wait: seconds before the second attempt; it doubles with each further one.

    Returns:
        The URL that served, or the file's name where it was there already.

    Raises:
        IntegrityError: a mirror served a whole file that has another hash.
        SystemFault: no mirror could be reached, or the file cannot be written.
    """
    part = dest.with_name(dest.name + ".part")
    failures = []
    with _locked(dest):
        if _is_whole(dest, sha256):
            return dest.name
        for url in urls:
            try:
                _ask(url, part, begins, retries, wait)
            except _Refused as reason:
                _log.warning("%s: %s", url, reason)
                failures.append(f"{url}: {reason}")
                continue
            _accept(url, part, dest, sha256)
            _log.info("%s: served by %s", dest, url)
            return url
    raise SystemFault(
        f"{dest.name}: no mirror served it: " + "; ".join(failures),
        "run the same command again, or get the file elsewhere and use `cmw download NAME --from FILE`",
    )


@contextlib.contextmanager
def _locked(dest: Path) -> Iterator[None]:
    lock = FileLock(dest.with_name(dest.name + ".lock"))
    with system_faults(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _is_whole(dest: Path, sha256: str) -> bool:
    with system_faults(dest):
        return dest.is_file() and _hash(dest) == sha256


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _accept(url: str, part: Path, dest: Path, sha256: str) -> None:
    with system_faults(dest):
        found = _hash(part)
        if found == sha256:
            part.replace(dest)
        _forget(part)
    if found != sha256:
        raise IntegrityError(
            f"{url}: sha256 is {found}; expected {sha256}",
            "run the same command again; if it repeats, that address has another file than the published one",
        )


def _ask(url: str, part: Path, begins: bytes, retries: int, wait: float) -> None:
    """Let one mirror fill ``part``, with growing pauses between the attempts.

    Raises:
        _Refused: it does not have the file, or the last attempt failed too.
    """
    for attempt in range(retries):
        try:
            _transfer(url, part, begins)
        except _Interrupted as reason:
            if attempt + 1 == retries:
                raise _Refused(f"{reason} (attempt {retries} of {retries})") from None
            _log.info("%s: %s; trying again", url, reason)
            time.sleep(wait * 2**attempt)
        else:
            return


def _transfer(url: str, part: Path, begins: bytes) -> None:
    """Continue the kept beginning where that is possible, start from zero where it is not."""
    origin = _kept_origin(part)
    offset = part.stat().st_size if part.is_file() else 0
    if origin is None or origin.url != url or origin.size is None or offset > origin.size:
        origin, offset = None, 0
    if origin is not None and offset == origin.size:
        return
    try:
        _request(url, part, begins, offset, origin)
    except _Changed:
        _log.info("%s: changed since the last attempt; starting from zero", url)
        _request(url, part, begins, 0, None)


def _request(url: str, part: Path, begins: bytes, offset: int, origin: _Origin | None) -> None:
    """Ask for the bytes from ``offset`` on, and write them.

    Raises:
        _Refused: no such file, another one, or (:class:`_Changed`) another part than the one asked for.
        _Interrupted: no answer, or not all of it.
    """
    headers = {"User-Agent": "cmw-pipeline"}
    if offset and origin is not None:
        headers["Range"] = f"bytes={offset}-"
        if origin.etag and not origin.etag.startswith("W/"):
            headers["If-Range"] = origin.etag
    with contextlib.closing(_open(url, headers)) as response:
        if response.status == 206 and origin is not None and _continues(response, offset, origin):
            _write(part, offset, _chunks(response))
        elif response.status == 200:
            origin = _Origin(url, response.headers["ETag"], _length(response))
            _start(part, begins, origin, response)
        else:
            raise _Changed(f"HTTP {response.status} with another part than the one asked for")
    size = part.stat().st_size
    if origin.size is not None and size != origin.size:
        raise _Interrupted(f"the connection closed after {size} of {origin.size} bytes")


def _start(part: Path, begins: bytes, origin: _Origin, response: HTTPResponse) -> None:
    chunks = _chunks(response)
    first = next(chunks, b"")
    # Looked at before anything is opened: a login page must not wipe out what another mirror gave.
    if not first.startswith(begins):
        raise _Refused(f"not the file: it begins with {first[:20]!r}; expected {begins!r}")
    with system_faults(part):
        _forget(part)  # first, so that no crash can pair the old bytes with the new origin
        _origin_file(part).write_text(json.dumps(asdict(origin)), encoding="utf-8")
    _write(part, 0, chain([first], chunks))


def _write(part: Path, offset: int, chunks: Iterator[bytes]) -> None:
    with system_faults(part), part.open("ab" if offset else "wb") as stream:
        for chunk in chunks:
            stream.write(chunk)
        stream.flush()
        os.fsync(stream.fileno())


def _chunks(response: HTTPResponse) -> Iterator[bytes]:
    try:
        while chunk := response.read(_CHUNK):
            yield chunk
    except (OSError, HTTPException) as error:
        raise _Interrupted(f"the connection broke: {error}") from None


def _continues(response: HTTPResponse, offset: int, origin: _Origin) -> bool:
    etag = response.headers["ETag"]
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers["Content-Range"] or "")
    same_file = etag is None or origin.etag is None or etag == origin.etag
    return same_file and span is not None and (int(span[1]), int(span[2])) == (offset, origin.size)


def _length(response: HTTPResponse) -> int | None:
    length = response.headers["Content-Length"]
    return int(length) if length is not None and length.isdecimal() else None


def _origin_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _kept_origin(part: Path) -> _Origin | None:
    try:
        return _Origin(**json.loads(_origin_file(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _origin_file(part).unlink(missing_ok=True)


class _NoDowngrade(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and those from http to http."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme not in ("https", req.type):
            raise _Refused(f"redirects from {req.type} to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    # S310 warns of file: addresses; these are constants of this package, and redirects are checked above.
    request = urllib.request.Request(url, headers=headers)  # noqa: S310
    opener = urllib.request.build_opener(_NoDowngrade)
    try:
        response: HTTPResponse = opener.open(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise _Changed("HTTP 416 to a request for the rest") from None
        kind = _Interrupted if error.code in _PASSING_STATUS else _Refused
        raise kind(f"HTTP {error.code} {error.reason}") from None
    except (OSError, HTTPException) as error:
        raise _Interrupted(str(error) or type(error).__name__) from None
    return response
