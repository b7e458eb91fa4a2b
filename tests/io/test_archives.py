"""Archives are read, never extracted; anything odd in one is refused by name (faults F11 to F15)."""

import gzip
import io
import tarfile

import pytest

from cmw_pipeline.errors import IntegrityError
from cmw_pipeline.io import archives
from cmw_pipeline.io.archives import read_members, top_folder
from tests.support.cifar import file_entry, gzipped, tar_gz

BESIDE = frozenset({"meta", "readme.html"})
MEMBERS = {"a.bin": (1_000, None), "b.bin": (None, None)}
GOOD = [file_entry("set/a.bin", b"a" * 1_000), file_entry("set/b.bin", b"b" * 700)]


def stored(tmp_path, data):
    """The archive, alone in its folder, so that a test sees anything that is written."""
    archive = tmp_path / "set.tar.gz"
    archive.write_bytes(data)
    return archive


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, b""


def test_the_wanted_members_are_read_and_nothing_is_written(tmp_path):
    folder = special("set", tarfile.DIRTYPE)
    archive = stored(tmp_path, tar_gz([folder, *GOOD, file_entry("set/readme.html", b"<p>")]))
    assert read_members(archive, "set", MEMBERS, BESIDE) == {"a.bin": b"a" * 1_000, "b.bin": b"b" * 700}
    assert top_folder(archive) == "set"
    assert list(tmp_path.iterdir()) == [archive]


@pytest.mark.parametrize(
    "odd",
    [
        file_entry("../x", b"x"),
        file_entry("set/../../x", b"x"),
        file_entry("/abs", b"x"),
        file_entry("x", b"x"),
        file_entry("set/sub/a.bin", b"x"),
        file_entry("set/c.bin", b"x"),
        file_entry("other/meta", b"x"),
        special("set/meta", tarfile.SYMTYPE, "../../x"),
        special("set/meta", tarfile.LNKTYPE, "../../x"),
        special("set/meta", tarfile.CHRTYPE),
        special("set/meta", tarfile.BLKTYPE),
        special("set/meta", tarfile.FIFOTYPE),
        special("set/meta", tarfile.GNUTYPE_SPARSE),
        special("set/meta", tarfile.DIRTYPE),
        special("set/a.bin", tarfile.SYMTYPE, "/etc/passwd"),
        special("set", tarfile.SYMTYPE, "/tmp"),
    ],
    ids=lambda odd: f"{odd[0].name} {odd[0].type.decode()}",
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_member_that_does_not_belong_is_refused_by_name(tmp_path, odd, first):
    archive = stored(tmp_path, tar_gz([odd, *GOOD] if first else [*GOOD, odd]))
    with pytest.raises(IntegrityError) as caught:
        read_members(archive, "set", MEMBERS, BESIDE)
    assert str(archive) in caught.value.message
    assert repr(odd[0].name) in caught.value.message
    assert list(tmp_path.iterdir()) == [archive]


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    archive = stored(tmp_path, tar_gz([*GOOD, GOOD[0]]))
    with pytest.raises(IntegrityError, match=r"'set/a\.bin' is there twice"):
        read_members(archive, "set", MEMBERS, BESIDE)


def test_a_missing_member_is_named(tmp_path):
    with pytest.raises(IntegrityError, match=r"without the member set/b\.bin"):
        read_members(stored(tmp_path, tar_gz(GOOD[:1])), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("size", [999, 1_001, 50_000_000])
def test_a_member_of_another_size_than_the_frozen_one_is_refused(tmp_path, size):
    archive = stored(tmp_path, tar_gz([file_entry("set/a.bin", bytes(size)), GOOD[1]]))
    with pytest.raises(IntegrityError, match=rf"'set/a\.bin' has {size} bytes; expected 1000"):
        read_members(archive, "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("name", ["b.bin", "meta"])
def test_a_member_without_a_frozen_size_is_read_up_to_a_cap(tmp_path, monkeypatch, name):
    monkeypatch.setattr(archives, "SIZE_CAP", 5_000)
    archive = stored(tmp_path, tar_gz([file_entry(f"set/{name}", bytes(5_001))]))
    with pytest.raises(IntegrityError, match="at most 5000"):
        read_members(archive, "set", MEMBERS, BESIDE)


def test_a_bomb_in_the_headers_stops_at_the_limit(tmp_path, monkeypatch):
    """A comment of any length may stand before a member; tarfile would read it whole."""
    monkeypatch.setattr(archives, "_SLACK", 100_000)
    monkeypatch.setattr(archives, "SIZE_CAP", 5_000)
    info, data = file_entry("set/a.bin", b"a" * 1_000)
    info.pax_headers = {"comment": "x" * 1_000_000}
    archive = stored(tmp_path, tar_gz([(info, data), GOOD[1]]))
    with pytest.raises(IntegrityError, match="unpacks to more than 106000 bytes"):
        read_members(archive, "set", MEMBERS, BESIDE)


def test_a_bomb_behind_the_members_stops_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_SLACK", 100_000)
    monkeypatch.setattr(archives, "SIZE_CAP", 5_000)
    archive = stored(tmp_path, gzipped(gzip.decompress(tar_gz(GOOD)) + bytes(1_000_000)))
    with pytest.raises(IntegrityError, match="unpacks to more than"):
        read_members(archive, "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("size", ["-1", "-512", "-1024", "-99999999"])
def test_a_member_that_announces_a_negative_size_is_refused(tmp_path, size):
    info, data = file_entry("set/b.bin", b"b" * 700)
    info.pax_headers = {"size": size}
    with pytest.raises(IntegrityError):
        read_members(stored(tmp_path, tar_gz([GOOD[0], (info, data)])), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    whole = tar_gz(GOOD)
    with pytest.raises(IntegrityError, match=r"set\.tar\.gz"):
        read_members(stored(tmp_path, whole[: int(len(whole) * kept)]), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("cut", [100, 512, 1_200, 2_000])
def test_a_tar_that_ends_early_inside_a_whole_gzip_is_refused(tmp_path, cut):
    with pytest.raises(IntegrityError, match=r"set\.tar\.gz"):
        read_members(stored(tmp_path, gzipped(gzip.decompress(tar_gz(GOOD))[:cut])), "set", MEMBERS, BESIDE)


def test_bytes_behind_the_gzip_are_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"not a whole tar\.gz"):
        read_members(stored(tmp_path, tar_gz(GOOD) + b"PK\x03\x04"), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("position", [3_072, 3_600, -1])
def test_bytes_behind_the_last_member_are_refused(tmp_path, position):
    """GOOD fills the first 3,072 bytes: two headers, two blocks each."""
    plain = bytearray(gzip.decompress(tar_gz(GOOD)))
    plain[position] = 7
    with pytest.raises(IntegrityError, match="bytes behind the last member"):
        read_members(stored(tmp_path, gzipped(bytes(plain))), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("position", [10, 40, -6])
def test_a_flipped_byte_is_refused(tmp_path, position):
    damaged = bytearray(tar_gz(GOOD))
    damaged[position] ^= 0xFF
    with pytest.raises(IntegrityError, match=r"set\.tar\.gz"):
        read_members(stored(tmp_path, bytes(damaged)), "set", MEMBERS, BESIDE)


@pytest.mark.parametrize("data", [b"", b"<!DOCTYPE html>", b"\x1f\x8b", gzipped(b"not a tar" * 100)])
def test_a_file_that_is_no_archive_is_refused_in_one_line(tmp_path, data):
    for read in (top_folder, lambda file: read_members(file, "set", MEMBERS, BESIDE)):
        with pytest.raises(IntegrityError) as caught:
            read(stored(tmp_path, data))
        assert "\n" not in caught.value.message


def test_an_empty_archive_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match="an empty archive"):
        top_folder(stored(tmp_path, gzipped(bytes(10_240))))


def test_a_sparse_member_is_refused(tmp_path):
    """It announces gigabytes and holds a few bytes."""
    info, data = file_entry("set/meta", b"1\n0\n4\nabcd")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 10}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info, io.BytesIO(data.ljust(512, b"\0")))
    with pytest.raises(IntegrityError, match=r"'set/meta' is not a plain file|not a whole tar"):
        read_members(stored(tmp_path, gzipped(plain.getvalue())), "set", MEMBERS, BESIDE)
