"""Pictures, videos and sounds that nothing can read, told by their bytes; and what may well be read is let be."""

import struct
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doctor.recipe import media_files


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(side=8):
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\1\2\3" * side) * side)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


JPEG = (
    b"\xff\xd8\xff\xe0\0\x10JFIF\0"
    + bytes(9)
    + b"\xff\xc0\0\x11\x08\0\x30\0\x40\x03"
    + bytes(9)
    + b"\xff\xda12\xff\xd9"
)
MP4 = struct.pack(">I4s4s4x", 16, b"ftyp", b"isom") + struct.pack(">I4s", 16, b"mdat") + bytes(8)
MOOV = struct.pack(">I4s", 8, b"moov")


@pytest.mark.parametrize(
    ("content", "kind", "why"),
    [
        (b"", "images", "is empty"),
        (bytes(5000), "videos", "holds zeros only"),
        (b"<!DOCTYPE html><html>", "images", "is a web page"),
        (b"not found\n", "images", "is text"),
        (b"\xef\xbb\xbf<HTML>", "audios", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "images", "is a git-lfs pointer"),
        (png()[:50], "images", "is cut off"),
        (png()[:20], "images", "is cut off"),
        (JPEG[:-2], "images", "is cut off"),
        (b"RIFF" + struct.pack("<I", 5000) + b"WEBPVP8 ", "images", "is cut off"),
        (MP4 + MOOV, "images", "is a video"),
        (MP4, "videos", "is cut off: it has no index (moov)"),
        (struct.pack(">I4s4s4x", 16, b"ftyp", b"isom") + struct.pack(">I4s", 900, b"mdat"), "videos",
         "is cut off: it has no index (moov)"),
    ],
)  # fmt: skip
def test_what_nothing_reads_is_told(tmp_path, content, kind, why):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    assert media_files.damage(file, kind) == why


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (png(), "images"), (png()[:-12], "images"), (JPEG, "images"), (JPEG + b"\0\r\n", "images"), (b"GIF89a..", "images"),
        (bytes(70) + b"\1", "audios"), (b"P6 2 2 255 ", "images"), (MP4 + MOOV, "videos"), (b"\x1aE\xdf\xa3", "videos"),
        (b"RIFF\4\0\0\0WAVE", "audios"),
    ],
)  # fmt: skip
def test_what_may_be_read_is_let_be(tmp_path, content, kind):
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    assert media_files.damage(file, kind) is None


def test_the_size_of_a_picture_is_read_from_its_head(tmp_path):
    for content, size in ((png(9), (9, 9)), (JPEG, (64, 48)), (b"GIF89a", None), (JPEG[:12], None), (b"", None)):
        (tmp_path / "a").write_bytes(content)
        assert media_files.pixels(tmp_path / "a") == size
    assert media_files.pixels(tmp_path / "absent") is None
    assert media_files.damage(tmp_path / "absent", "images") is None


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([png(), JPEG, MP4 + MOOV, b"RIFF\x28\0\0\0WEBPVP8 "]), st.data())
def test_whatever_the_bytes_it_is_told_or_let_be(tmp_path, whole, data):
    at = data.draw(st.integers(0, len(whole)))
    (tmp_path / "x").write_bytes(
        whole[:at] + data.draw(st.binary(max_size=12)) + whole[at + data.draw(st.integers(0, 8)) :]
    )
    for kind in ("images", "videos", "audios"):
        assert isinstance(media_files.damage(tmp_path / "x", kind), str | None)
    assert isinstance(media_files.pixels(tmp_path / "x"), tuple | None)
