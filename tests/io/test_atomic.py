"""Whatever happens, a file or folder is whole under its final name or not there."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cmw_pipeline.errors import IntegrityError, SystemFault
from cmw_pipeline.io.atomic import atomic_dir, atomic_file, system_faults, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def make_file(path, text="new"):
    write_text(path, text)


def make_dir(path, text="new"):
    with atomic_dir(path) as draft:
        (draft / "a").write_text(text)
        (draft / "inner").mkdir()
        (draft / "inner" / "b").write_text(text)


def content(path):
    """Text of a file, or of all files below a folder."""
    if path.is_dir():
        return {
            file.relative_to(path).as_posix(): file.read_text() for file in path.rglob("*") if file.is_file()
        }
    return path.read_text()


WHOLE = {make_file: "{0}", make_dir: {"a": "{0}", "inner/b": "{0}"}}
MAKERS = pytest.mark.parametrize("make", [make_file, make_dir])


def whole(make, text):
    pattern = WHOLE[make]
    return text if isinstance(pattern, str) else dict.fromkeys(pattern, text)


@MAKERS
def test_it_appears_whole_with_ordinary_rights_and_no_scraps(tmp_path, make):
    path = tmp_path / "some folder" / "ünïcode name"
    make(path)
    assert content(path) == whole(make, "new")
    assert names(path.parent) == [path.name]
    assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)


@MAKERS
def test_what_was_there_is_replaced(tmp_path, make):
    make(tmp_path / "x", "old")
    make(tmp_path / "x", "new")
    assert content(tmp_path / "x") == whole(make, "new")
    assert names(tmp_path) == ["x"]


def fail_in_file(path, error):
    def write(draft):
        draft.write_text("half")
        raise error

    atomic_file(path, write)


def fail_in_dir(path, error):
    with atomic_dir(path) as draft:
        (draft / "a").write_text("half")
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1), IntegrityError("x")])
@pytest.mark.parametrize(("fail", "make"), [(fail_in_file, make_file), (fail_in_dir, make_dir)])
def test_after_an_exception_nothing_is_left_and_what_was_there_stays(tmp_path, fail, make, error):
    with pytest.raises(type(error)):
        fail(tmp_path / "fresh", error)
    assert names(tmp_path) == []
    make(tmp_path / "x", "old")
    with pytest.raises(type(error)):
        fail(tmp_path / "x", error)
    assert content(tmp_path / "x") == whole(make, "old")
    assert names(tmp_path) == ["x"]


KILLED = """
import os, signal, sys
from pathlib import Path
from cmw_pipeline.io import atomic

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

kind, moment, path = sys.argv[1], sys.argv[2], Path(sys.argv[3])
if moment == "rename":
    Path.rename = Path.replace = die
elif moment == "fsync":
    os.fsync = die

def fill(file):
    file.write_text("half" if moment == "write" else "new")
    if moment == "write":
        die()

if kind == "make_file":
    atomic.atomic_file(path, fill)
else:
    with atomic.atomic_dir(path) as draft:
        fill(draft / "a")
"""


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
@MAKERS
def test_killed_before_the_rename_there_is_nothing_under_the_final_name(tmp_path, make, moment):
    path = tmp_path / "x"
    command = [sys.executable, "-c", KILLED, make.__name__, moment, str(path)]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    assert not path.exists()
    assert all(name.startswith(".x.") for name in names(tmp_path)), "only a draft, which nobody reads"
    make(path)
    assert content(path) == whole(make, "new")


@pytest.mark.parametrize("moment", ["write", "fsync", "rename"])
def test_killed_before_the_rename_the_old_file_stays(tmp_path, moment):
    path = tmp_path / "x"
    make_file(path, "old")
    subprocess.run([sys.executable, "-c", KILLED, "make_file", moment, str(path)])
    assert path.read_text() == "old"


@pytest.mark.parametrize("moment", ["write", "fsync"])
def test_killed_before_the_exchange_the_old_folder_stays(tmp_path, moment):
    path = tmp_path / "x"
    make_dir(path, "old")
    subprocess.run([sys.executable, "-c", KILLED, "make_dir", moment, str(path)])
    assert content(path) == whole(make_dir, "old")


def test_killed_in_the_middle_of_the_exchange_no_folder_is_half_there(tmp_path):
    """A folder cannot be exchanged in one step: the old one goes first. Nothing counts as not made."""
    path = tmp_path / "x"
    make_dir(path, "old")
    subprocess.run([sys.executable, "-c", KILLED, "make_dir", "rename", str(path)])
    assert not path.exists()


@MAKERS
def test_every_byte_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch, make):
    events = []
    fsync = os.fsync

    def synced(handle):
        events.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))  # noqa: PTH119, PTH115
        fsync(handle)

    monkeypatch.setattr(os, "fsync", synced)
    for method in ("rename", "replace"):
        original = getattr(Path, method)

        def moved(path, target, original=original):
            events.append("moved")
            return original(path, target)

        monkeypatch.setattr(Path, method, moved)
    make(tmp_path / "x")
    before, after = events[: events.index("moved")], events[events.index("moved") + 1 :]
    assert any(name.startswith(".x.") for name in before)
    if make is make_dir:
        assert {"a", "b", "inner"} <= set(before)
    assert after == [tmp_path.name], "the folder that holds the new name, last"


def test_a_link_into_a_cache_is_replaced_not_written_through(tmp_path):
    """DVC can link its cache into the project; writing through the link would spoil the cache."""
    cached = tmp_path / "cached"
    cached.write_text("old")
    (tmp_path / "hard").hardlink_to(cached)
    (tmp_path / "soft").symlink_to(cached)
    for name in ("hard", "soft"):
        write_text(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
        assert not (tmp_path / name).is_symlink()
    assert cached.read_text() == "old"


# --- what the system refuses


def assert_one_line(fault, path):
    assert isinstance(fault, SystemFault)
    assert fault.exit_code == 5
    assert str(path) in fault.message
    assert "\n" not in str(fault)


@MAKERS
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path, make):
    (tmp_path / "file").write_text("I am no folder")
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deeper" / "x"):
        with pytest.raises(SystemFault) as raised:
            make(path)
        assert_one_line(raised.value, path)
    assert names(tmp_path) == ["file"]


def test_a_folder_in_place_of_the_file_and_a_file_in_place_of_the_folder_stay(tmp_path):
    make_dir(tmp_path / "folder", "old")
    make_file(tmp_path / "file", "old")
    for make, path in ((make_file, tmp_path / "folder"), (make_dir, tmp_path / "file")):
        with pytest.raises(SystemFault) as raised:
            make(path)
        assert_one_line(raised.value, path)
    assert content(tmp_path / "folder") == whole(make_dir, "old")
    assert content(tmp_path / "file") == "old"
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "disk quota exceeded"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only file system"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_what_the_system_says_in_words(tmp_path, monkeypatch, code, words):
    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    for make in (make_file, make_dir):
        with pytest.raises(SystemFault) as raised:
            make(tmp_path / "x")
        assert_one_line(raised.value, tmp_path / "x")
        assert raised.value.message.endswith(words)
        assert names(tmp_path) == []


def test_an_error_without_a_number_still_says_something(tmp_path):
    with pytest.raises(SystemFault, match="the tape broke"), system_faults(tmp_path):
        raise OSError("the tape broke")


@pytest.fixture
def small_disk():
    """A file-size limit stands in for the full disk: the same system call fails in the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, handler)


@MAKERS
def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, make, small_disk):
    make(tmp_path / "x", "old")
    with pytest.raises(SystemFault) as raised:
        make(tmp_path / "x", "n" * 1_000_000)
    assert_one_line(raised.value, tmp_path / "x")
    assert content(tmp_path / "x") == whole(make, "old")
    assert names(tmp_path) == ["x"]
