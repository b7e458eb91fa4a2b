"""Fetching: a correct file under its final name, or one clear line (faults F01 to F10)."""

import contextlib
import gzip
import hashlib
import http.server
import io
import logging
import os
import random
import subprocess
import sys
import threading
import urllib.request
import urllib.response
from email.message import Message
from pathlib import Path

import pytest

from cmw_pipeline.errors import IntegrityError, SystemFault
from cmw_pipeline.io import download
from cmw_pipeline.io.download import fetch

ARCHIVE = gzip.compress(random.Random(0).randbytes(1_000_000), compresslevel=1)
GZIP = b"\x1f\x8b"
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


class Mirror(http.server.ThreadingHTTPServer):
    """Serves ``content`` with ranges; each path but ``/file`` names a way to misbehave."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = ARCHIVE
        self.etag: str | None = '"one"'
        self.drop_after: float | None = None
        self.knows_ranges = True
        self.ahead = 0
        """By how many bytes a part begins, and ends, before the place that was asked for."""
        self.ranges: list[str | None] = []
        self.paths: list[str] = []

    def url(self, path="/file"):
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.server.paths.append(self.path)
        self.server.ranges.append(self.headers["Range"])
        answers = {
            "/file": self.file,
            "/login": lambda: self.answer(200, b"<!DOCTYPE html><title>Sign in</title>" * 20),
            "/moved": lambda: self.answer(302, b"", Location="/file"),
            "/busy": lambda: self.answer(503, b"busy"),
            "/silent": self.server.stopped.wait,
            "/lying-range": lambda: self.answer(206, ARCHIVE[:10], **{"Content-Range": "bytes 0-9/10"}),
        }
        answers.get(self.path, lambda: self.answer(404, b"none"))()

    def file(self):
        content, span = self.server.content, self.headers["Range"]
        wanted_etag = self.headers["If-Range"]
        same = wanted_etag is None or wanted_etag == self.server.etag
        tag = {"ETag": self.server.etag} if self.server.etag else {}
        if span and self.server.knows_ranges and same:
            start = int(span.removeprefix("bytes=").removesuffix("-")) - self.server.ahead
            if start >= len(content):
                return self.answer(416, b"")
            end = len(content) - self.server.ahead
            where = f"bytes {start}-{end - 1}/{len(content)}"
            return self.answer(206, content[start:end], **tag, **{"Content-Range": where})
        return self.answer(200, content, **tag)

    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        drop = self.server.drop_after
        with contextlib.suppress(ConnectionError):
            self.wfile.write(body if drop is None else body[: int(len(body) * drop)])
        self.close_connection = True


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Mirror()
    server.stopped = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.stopped.set()
    server.shutdown()
    thread.join()
    server.server_close()


def drop_once(mirror, dest, after=0.6):
    """One fetch whose connection breaks; its beginning stays beside ``dest``."""
    mirror.drop_after = after
    with pytest.raises(SystemFault):
        fetch([mirror.url()], SHA256, dest, retries=1)
    mirror.drop_after = None


def test_a_fetched_file_is_whole_and_leaves_no_scraps(mirror, tmp_path, caplog):
    dest = tmp_path / "new" / "data.tar.gz"
    with caplog.at_level(logging.INFO):
        assert fetch([mirror.url()], SHA256, dest) == mirror.url()
    assert dest.read_bytes() == ARCHIVE
    assert not list(dest.parent.glob("*.part*"))
    assert f"served by {mirror.url()}" in caplog.text


def test_a_file_of_any_kind_is_fetched_where_nothing_is_said_of_its_beginning(mirror, tmp_path):
    mirror.content = b"\x80\x02 weights of an older form"
    dest = tmp_path / "weights.pth"
    fetch([mirror.url()], hashlib.sha256(mirror.content).hexdigest(), dest)
    assert dest.read_bytes() == mirror.content


def test_a_broken_connection_is_continued_by_the_next_call(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    drop_once(mirror, dest)
    kept = (tmp_path / "data.tar.gz.part").stat().st_size
    assert 0 < kept < len(ARCHIVE)
    assert not dest.exists()
    fetch([mirror.url()], SHA256, dest)
    assert mirror.ranges == [None, f"bytes={kept}-"]
    assert dest.read_bytes() == ARCHIVE


def test_a_broken_connection_is_continued_within_the_call(mirror, tmp_path, monkeypatch):
    mirror.drop_after = 0.6
    monkeypatch.setattr(download.time, "sleep", lambda _: setattr(mirror, "drop_after", None))
    fetch([mirror.url()], SHA256, tmp_path / "data.tar.gz")
    assert len(mirror.ranges) == 2
    assert mirror.ranges[1] is not None
    assert (tmp_path / "data.tar.gz").read_bytes() == ARCHIVE


def test_a_server_without_ranges_is_read_from_zero(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    drop_once(mirror, dest)
    mirror.knows_ranges = False
    fetch([mirror.url()], SHA256, dest)
    assert dest.read_bytes() == ARCHIVE


def test_a_part_that_begins_elsewhere_is_never_spliced(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    drop_once(mirror, dest)
    kept = (tmp_path / "data.tar.gz.part").stat().st_size
    mirror.ahead = 7
    fetch([mirror.url()], SHA256, dest)
    assert mirror.ranges == [None, f"bytes={kept}-", None]
    assert dest.read_bytes() == ARCHIVE


@pytest.mark.parametrize("etag", ['"two"', None], ids=["new etag", "no etag, new size"])
def test_a_file_that_changed_between_attempts_is_never_spliced(mirror, tmp_path, etag):
    dest = tmp_path / "data.tar.gz"
    mirror.etag = mirror.etag if etag else None
    drop_once(mirror, dest)
    mirror.content, mirror.etag = gzip.compress(b"another file" * 100_000, compresslevel=0), etag
    fetch([mirror.url()], hashlib.sha256(mirror.content).hexdigest(), dest)
    assert dest.read_bytes() == mirror.content


def test_a_file_that_shrank_below_what_was_kept_is_read_from_zero(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    mirror.etag = None
    drop_once(mirror, dest)
    mirror.content = gzip.compress(b"short")
    fetch([mirror.url()], hashlib.sha256(mirror.content).hexdigest(), dest)
    assert dest.read_bytes() == mirror.content


def test_what_another_mirror_began_is_not_continued(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    drop_once(mirror, dest)
    fetch([mirror.url("/moved")], SHA256, dest)
    assert mirror.ranges == [None, None, None]
    assert dest.read_bytes() == ARCHIVE


def test_a_login_page_does_not_wipe_out_what_another_mirror_began(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    drop_once(mirror, dest)
    with pytest.raises(SystemFault):
        fetch([mirror.url("/login")], SHA256, dest, begins=GZIP, retries=1)
    fetch([mirror.url()], SHA256, dest)
    assert mirror.ranges[-1] is not None


@pytest.mark.parametrize("scrap", [b"", b"{", b"[]", b'{"url": 1}'])
def test_a_beginning_of_unknown_origin_is_not_continued(mirror, tmp_path, scrap):
    dest = tmp_path / "data.tar.gz"
    (tmp_path / "data.tar.gz.part").write_bytes(b"what is this")
    (tmp_path / "data.tar.gz.part.json").write_bytes(scrap)
    fetch([mirror.url()], SHA256, dest)
    assert mirror.ranges == [None]
    assert dest.read_bytes() == ARCHIVE


def test_wrong_bytes_of_the_right_size_are_refused_and_removed(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    mirror.content = ARCHIVE[:-1] + b"?"
    with pytest.raises(IntegrityError) as caught:
        fetch([mirror.url()], SHA256, dest)
    found = hashlib.sha256(mirror.content).hexdigest()
    assert all(word in caught.value.message for word in (mirror.url(), found, SHA256))
    assert caught.value.exit_code == 3
    assert [file.name for file in tmp_path.iterdir() if not file.name.endswith(".lock")] == []


@pytest.mark.parametrize("bad", ["/absent", "/login", "/busy", "/silent", "/lying-range"])
def test_a_bad_mirror_gives_way_to_the_next(mirror, tmp_path, monkeypatch, caplog, bad):
    ask = download._open

    def impatient_of_the_silent_one(url, headers):
        monkeypatch.setattr(download, "_TIMEOUT", 0.2 if url.endswith("/silent") else 1800)
        return ask(url, headers)

    monkeypatch.setattr(download, "_open", impatient_of_the_silent_one)
    dest = tmp_path / "data.tar.gz"
    urls = [mirror.url(bad), mirror.url()]
    assert fetch(urls, SHA256, dest, begins=GZIP, retries=2, wait=0) == mirror.url()
    assert dest.read_bytes() == ARCHIVE
    assert mirror.url(bad) in caplog.text


def test_a_mirror_that_is_not_there_gives_way_to_the_next(mirror, tmp_path):
    gone = "http://127.0.0.1:9/file"
    assert fetch([gone, mirror.url()], SHA256, tmp_path / "data.tar.gz", wait=0) == mirror.url()


def test_a_refusal_is_not_asked_twice(mirror, tmp_path):
    with pytest.raises(SystemFault):
        fetch([mirror.url("/absent")], SHA256, tmp_path / "data.tar.gz", retries=3)
    assert mirror.paths == ["/absent"]


def test_when_all_mirrors_are_down_the_message_names_each_and_a_way_out(mirror, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    urls = [mirror.url("/absent"), mirror.url("/busy")]
    with pytest.raises(SystemFault) as caught:
        fetch(urls, SHA256, tmp_path / "data.tar.gz", retries=3, wait=1.0)
    assert caught.value.exit_code == 5
    assert all(url in caught.value.message for url in urls)
    assert "cmw download NAME --from FILE" in caught.value.hint
    assert pauses == [1.0, 2.0]


def test_a_redirect_is_followed(mirror, tmp_path):
    fetch([mirror.url("/moved")], SHA256, tmp_path / "data.tar.gz")
    assert mirror.paths == ["/moved", "/file"]


@pytest.mark.parametrize("target", ["http", "ftp"])
def test_a_redirect_never_leaves_https(mirror, tmp_path, monkeypatch, target):
    def redirect(_, request):
        headers = Message()
        headers["Location"] = mirror.url().replace("http", target)
        response = urllib.response.addinfourl(io.BytesIO(), headers, request.full_url, 302)
        response.msg = "Found"
        return response

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", redirect)
    with pytest.raises(SystemFault, match=f"redirects from https to {target}:"):
        fetch(["https://example.org/file"], SHA256, tmp_path / "data.tar.gz")
    assert mirror.paths == []


def test_a_file_that_is_there_costs_no_network_call(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    dest.write_bytes(ARCHIVE)
    assert fetch([mirror.url()], SHA256, dest) == "data.tar.gz"
    assert mirror.paths == []


def test_a_damaged_file_is_fetched_again(mirror, tmp_path):
    dest = tmp_path / "data.tar.gz"
    dest.write_bytes(ARCHIVE[:-1])
    fetch([mirror.url()], SHA256, dest)
    assert dest.read_bytes() == ARCHIVE


def test_two_that_fetch_the_same_file_at_once_fetch_it_once(mirror, tmp_path):
    dest, origins = tmp_path / "data.tar.gz", []
    threads = [
        threading.Thread(target=lambda: origins.append(fetch([mirror.url()], SHA256, dest))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mirror.paths == ["/file"]
    assert sorted(origins) == sorted(["data.tar.gz", mirror.url()])


def test_a_kill_before_the_final_name_leaves_nothing_half_written(mirror, tmp_path):
    """The process dies when every byte is there and only the rename is missing."""
    dest = tmp_path / "data.tar.gz"
    program = (
        "import os, pathlib, signal, sys\n"
        "from cmw_pipeline.io.download import fetch\n"
        "pathlib.Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "fetch([sys.argv[1]], sys.argv[2], pathlib.Path(sys.argv[3]))\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, mirror.url(), SHA256, dest], check=False)
    assert killed.returncode == -9
    assert not dest.exists()
    fetch([mirror.url()], SHA256, dest)
    assert dest.read_bytes() == ARCHIVE
    assert mirror.paths == ["/file"]


def test_a_place_that_is_no_folder_is_named_in_one_line(mirror, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFault, match=r"file/data\.tar\.gz: "):
        fetch([mirror.url()], SHA256, tmp_path / "file" / "data.tar.gz")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_read_only_folder_is_named_in_one_line(mirror, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SystemFault, match="permission denied"):
        fetch([mirror.url()], SHA256, tmp_path / "data.tar.gz")


def test_a_full_disk_is_named_in_one_line(mirror, tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.os, "fsync", full)
    with pytest.raises(SystemFault, match=r"data\.tar\.gz\.part: disk full"):
        fetch([mirror.url()], SHA256, Path(tmp_path / "data.tar.gz"))
