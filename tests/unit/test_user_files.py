"""The door: whatever a user names is read, or refused at once in one line with the path and the way out."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from darts_hpc import user_files
from darts_hpc.user_files import (
    check_inside,
    check_path,
    exists,
    is_file,
    is_folder,
    list_folder,
    open_file,
    parse_json,
    read_file,
    read_json,
    read_tail,
    read_text,
)

LOOKING: list[Callable[[Path], object]] = [exists, is_file, is_folder, list_folder]
READING: list[Callable[[Path], object]] = [
    open_file, read_file, read_text, read_json, lambda path: read_tail(path, 10),
]  # fmt: skip


def refusal(function: Callable[..., object], *args: object) -> str:
    """The one line that something is refused with."""
    with pytest.raises(ValueError) as error:
        function(*args)
    assert type(error.value) is ValueError and "\n" not in str(error.value) and len(str(error.value)) < 800
    return str(error.value)


@pytest.fixture
def nobody():
    """Be a user who may not enter the tests' folders, which root may always."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    yield
    os.seteuid(0)


def made(folder: Path, kind: str) -> Path:
    """Put something there that is no readable file."""
    path = folder / "thing"
    match kind:
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "link loop":
            path.symlink_to(path)
        case "too long":
            path = folder / ("x" * 300)
        case "NUL":
            path = folder / "a\0b"
        case "too large":
            path.touch()
            os.truncate(path, 1 << 40)
    return path


@pytest.mark.parametrize("kind", ["nothing", "folder", "fifo", "device", "link loop", "too long", "NUL"])
@pytest.mark.parametrize("read", READING)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, read, kind):
    assert str(tmp_path) in refusal(read, made(tmp_path, kind))


@pytest.mark.parametrize("read", READING[1:4])
def test_a_file_too_large_is_refused_before_it_is_read(tmp_path, read):
    assert f"{1 << 40} bytes; expected at most" in refusal(read, made(tmp_path, "too large"))


def test_the_end_of_a_large_file_is_read(tmp_path):
    (tmp_path / "log").write_bytes(b"x" * 100_000 + b"end")
    assert read_tail(tmp_path / "log", 5) == b"xxend"
    assert read_tail(tmp_path / "log", 1 << 30)[-4:] == b"xend"


@pytest.mark.parametrize("look", LOOKING)
@pytest.mark.parametrize("kind", ["link loop", "too long", "NUL"])
def test_looking_at_what_can_be_no_path_is_refused(tmp_path, look, kind):
    assert str(tmp_path) in refusal(look, made(tmp_path, kind))


@pytest.mark.parametrize("function", [*LOOKING, *READING])
def test_a_folder_that_may_not_be_entered_is_refused_by_name(tmp_path, nobody, function):
    said = refusal(function, tmp_path / "file")
    assert f"{tmp_path}/file can't be read (Permission denied)" in said and "this user may read" in said


def test_looking_tells_what_lies_there(tmp_path):
    file = tmp_path / "b.txt"
    file.touch()
    (tmp_path / "a").mkdir()
    os.mkfifo(tmp_path / "pipe")
    below = file / "below"
    found = {path.name: (exists(path), is_file(path), is_folder(path)) for path in [*list_folder(tmp_path), below]}
    assert found == {
        "a": (True, False, True), "b.txt": (True, True, False), "pipe": (True, False, False),
        "below": (False, False, False),
    }  # fmt: skip
    assert list_folder(tmp_path, "*.txt") == [file]
    assert list_folder(below) == list_folder(tmp_path / "none") == []


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_utf_8_with_or_without_a_byte_order_mark(tmp_path, mark):
    (tmp_path / "text").write_bytes(mark + '{"a": "é"}'.encode())
    assert read_text(tmp_path / "text") == '{"a": "é"}'
    assert read_json(tmp_path / "text") == {"a": "é"}


@pytest.mark.parametrize("content", ["é".encode("latin-1"), "a".encode("utf-16"), b"\xff" * 100])
def test_text_in_another_encoding_is_refused(tmp_path, content):
    (tmp_path / "text").write_bytes(content)
    assert "is not UTF-8 (byte 0)" in refusal(read_text, tmp_path / "text")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "nested deeper than 100"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested deeper than 100"),
        ('{"a": ' + "9" * 5000 + "}", "a number of 5000 digits"),
        ('{"a": -' + "9" * 400 + "}", "a number of 401 digits"),
        ("null", "expected a JSON object, not null"),
        ("[]", "expected a JSON object, not a list"),
        ('"text"', "expected a JSON object, not a text"),
        ("1", "expected a JSON object, not a number"),
        ("true", "expected a JSON object, not true or false"),
        ("", "damaged JSON: Expecting value"),
        ('{"a": 1', "damaged JSON"),
        ('{"a": 1}\0', "damaged JSON"),
        ('{"a": ["\\ud800"]}', "damaged JSON"),
        ('"' + '\\"' * 1_000_000, "damaged JSON"),
    ],
)
def test_json_that_is_no_object_or_hostile_is_refused_with_its_line(text, problem):
    said = refusal(parse_json, text, "file.json")
    assert said.startswith("file.json line 1: ") and problem in said


def test_json_is_read_as_by_the_standard_library():
    value = {"a": [1, -2.5e300, None, True, "[" * 500 + '"\\'], "b": {"c": [[[]]] * 60}, "d": 2**63}
    assert parse_json(json.dumps(value), "file") == value
    assert parse_json("[1]", "file", list) == [1]
    assert parse_json("null", "file", object) is None
    assert "file line 8: damaged JSON" in refusal(parse_json, "{\n]", "file", dict, 7)


def test_a_path_is_checked_before_anything_is_made():
    assert "--save x" in refusal(check_path, "x" * 256, "--save") and "a name of 256 bytes" in refusal(
        check_path, "x" * 256
    )
    assert "3802 bytes" in refusal(check_path, "x/" * 1901)
    assert "names of at most 255" in refusal(check_path, "é" * 128)
    assert "a\\x00b' holds a NUL" in refusal(check_path, "a\0b")
    assert "caf\\udce9' is not UTF-8" in refusal(check_path, os.fsdecode(b"caf\xe9"))
    for good in ("x" * 255, "x/" * 1900, "é" * 127, "café/名前"):
        check_path(good)


def test_a_path_that_the_locale_can_not_spell_is_refused(monkeypatch):
    def ascii_only(text: str) -> bytes:
        return text.encode("ascii")

    monkeypatch.setattr(os, "fsencode", ascii_only)
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert "can't be spelled in this locale's encoding, ascii" in refusal(check_path, "café")
    check_path("cafe")


def test_a_failing_disk_and_lack_of_memory_are_one_line(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"{}")

    class Failing(io.FileIO):
        def __init__(self, error):
            super().__init__(tmp_path / "file")
            self.error = error

        def read(self, *_):
            raise self.error

    for error, words in ((OSError(5, "Input/output error"), "Input/output error"), (MemoryError(), "MemoryError")):
        monkeypatch.setattr(user_files, "open_file", lambda *_, error=error: Failing(error))
        assert words in refusal(read_json, tmp_path / "file")


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x", "", ".", "a\0"])
def test_a_name_that_leads_out_of_its_folder_is_refused(name):
    assert "expected a path inside its own folder" in refusal(check_inside, name, "manifest")
