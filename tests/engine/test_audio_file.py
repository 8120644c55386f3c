from __future__ import annotations

import errno
import os
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile

from mertric import audio_file
from mertric.audio import mix, to_mono
from mertric.audio_file import AudioFile, read_audio
from mertric.errors import AudioError
from mertric.framing import ogg_problem, walk_mpeg, with_length
from mertric.protocol import PROTOCOLS
from mertric.resample import resample

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Sound = Callable[..., NDArray[np.float32]]

KINDS = [
    ("a.wav", "WAV", "FLOAT", 44100),
    ("a.wav", "WAV", "PCM_U8", 44100),
    ("a.flac", "FLAC", "PCM_16", 44100),
    ("a.ogg", "OGG", "VORBIS", 44100),
    ("a.opus", "OGG", "OPUS", 48000),
    ("a.mp3", "MP3", "MPEG_LAYER_III", 44100),
    ("a.caf", "CAF", "ALAC_16", 24000),
    ("a.aiff", "AIFF", "PCM_24", 96000),
]


def test_a_file_is_its_samples(write_wav: Callable[..., Path], sound: Sound) -> None:
    channels = np.stack([sound(1000, 1), sound(1000, 2)])
    audio = read_audio(write_wav("a.wav", channels, 44100))
    np.testing.assert_array_equal(audio.samples, channels)
    assert audio.samples.dtype == np.float32
    assert audio.sample_rate == 44100
    assert audio.seconds == pytest.approx(1000 / 44100)
    assert audio.name.endswith("a.wav")


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_wav_of_any_kind(write_wav: Callable[..., Path], sound: Sound, channels: int, subtype: str) -> None:
    samples = np.stack([sound(500, seed) for seed in range(channels)])
    audio = read_audio(write_wav("a.wav", samples, subtype=subtype))
    np.testing.assert_allclose(audio.samples, samples, atol=2**-15)


@pytest.mark.parametrize(
    ("name", "kind", "subtype", "rate", "within"),
    [
        ("a.flac", "FLAC", "PCM_16", 44100, 2**-15),
        ("a.aiff", "AIFF", "PCM_16", 44100, 2**-15),
        ("a.au", "AU", "PCM_16", 44100, 2**-15),
        ("a.caf", "CAF", "PCM_24", 44100, 2**-15),
        ("a.w64", "W64", "PCM_16", 44100, 2**-15),
        ("a.rf64", "RF64", "PCM_16", 44100, 2**-15),
        ("a.ogg", "OGG", "VORBIS", 44100, 0.1),
        ("a.opus", "OGG", "OPUS", 48000, 0.1),
        ("a.mp3", "MP3", "MPEG_LAYER_III", 44100, 0.1),
    ],
)
def test_formats(tmp_path: Path, name: str, kind: str, subtype: str, rate: int, within: float) -> None:
    if kind not in soundfile.available_formats() or subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"libsndfile here cannot write {kind} {subtype}")
    tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    soundfile.write(tmp_path / name, tone, rate, format=kind, subtype=subtype)
    audio = read_audio(tmp_path / name)
    assert audio.sample_rate == rate
    middle = slice(rate // 4, rate // 2)
    assert np.sqrt(np.mean((audio.samples[0, middle] - tone[middle]) ** 2)) < within


def test_reading_stops_at_max_seconds(write_wav: Callable[..., Path], sound: Sound) -> None:
    samples = sound(3000)
    path = write_wav("a.wav", samples, 1000)
    np.testing.assert_array_equal(read_audio(path, max_seconds=2).samples[0], samples[:2000])
    np.testing.assert_array_equal(read_audio(path, max_seconds=9).samples[0], samples)


@pytest.mark.parametrize(("name", "kind", "subtype", "rate"), KINDS)
def test_blocks_are_to_the_bit_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, subtype: str, rate: int
) -> None:
    if kind not in soundfile.available_formats() or subtype not in soundfile.available_subtypes(kind):
        pytest.skip(f"libsndfile here cannot write {kind} {subtype}")
    path = tmp_path / name
    noise = 0.1 * np.random.default_rng(0).standard_normal((rate, 2))
    soundfile.write(path, noise, rate, format=kind, subtype=subtype)
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    monkeypatch.setattr(audio_file, "_BLOCK", 2 * 777)
    with AudioFile(path) as file:
        assert file.seconds == whole.shape[1] / rate
        blocks = list(file.blocks())
    assert {block.shape for block in blocks[:-1]} == {(2, 777)}
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), whole)
    np.testing.assert_array_equal(read_audio(path).samples, whole)
    for protocol in PROTOCOLS.values():
        with AudioFile(path) as file:
            mono = to_mono(file, 24000, protocol)
        np.testing.assert_array_equal(mono, protocol.prepare(resample(mix(whole), rate, 24000)))


def test_long_audio_is_never_decoded_as_a_whole(write_wav: Callable[..., Path]) -> None:
    rate = 48000
    path = write_wav("long.wav", np.random.default_rng(0).uniform(-1, 1, (2, 90 * rate)), rate, subtype="PCM_16")
    decoded = 2 * 90 * rate * 4
    tracemalloc.start()
    try:
        with AudioFile(path) as file:
            mono = to_mono(file, 24000, PROTOCOLS["paper"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert mono.nbytes == decoded / 4
    assert peak < 0.75 * decoded, "the mono signal and some blocks"


def test_a_format_that_cannot_be_sought_in(tmp_path: Path) -> None:
    tone = 0.4 * np.sin(0.1 * np.arange(8000))
    soundfile.write(tmp_path / "gsm.wav", tone, 8000, subtype="GSM610")
    audio = read_audio(tmp_path / "gsm.wav")
    assert audio.samples.shape[1] >= 8000
    assert np.sqrt(np.mean((audio.samples[0, 1000:8000] - tone[1000:]) ** 2)) < 0.05


def test_nothing_follows_a_damaged_part(write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """libsndfile gives a short block where a packet is missing, and would go on behind it."""
    blocks = iter([np.ones((500, 1), np.float32), np.ones((200, 1), np.float32), np.ones((500, 1), np.float32)])
    monkeypatch.setattr(audio_file, "_BLOCK", 500)
    with AudioFile(write_wav("a.wav", np.ones(2000))) as file:
        monkeypatch.setattr(file._file, "read", lambda *_, **__: next(blocks))
        given: list[int] = []
        with pytest.raises(AudioError, match=r"a\.wav is damaged: 0\.03 s of it can be decoded, its header says 0\.08"):
            given.extend(block.shape[1] for block in file.blocks())
        assert given == [500, 200]


def test_a_gap_within_a_block_is_damage(tmp_path: Path, sound: Sound) -> None:
    """libsndfile finds its way again behind it, in the wrong place."""
    path = tmp_path / "gap.ogg"
    soundfile.write(path, sound(240_000), 24000)
    assert read_audio(path).seconds == 10
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"gap\.ogg is damaged: .* s of it can be decoded, its header says 10\.00 s"):
        read_audio(path)


@pytest.mark.parametrize("name", ["cut.wav", "cut.aiff", "cut.au"])
@pytest.mark.parametrize("left", [0.5, 0.99])
def test_a_file_that_was_cut_off(tmp_path: Path, sound: Sound, name: str, left: float) -> None:
    """libsndfile takes what is there for all that there is."""
    path = tmp_path / name
    soundfile.write(path, sound(24000), 24000)
    whole = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(int(left * whole))
    with pytest.raises(AudioError, match=rf"{name} is cut off: its header promises 4800[08] bytes, the file holds"):
        read_audio(path)
    assert read_audio(path, max_seconds=0.2).seconds == 0.2


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x7FFE0000])
def test_a_wav_that_was_written_into_a_pipe(tmp_path: Path, sound: Sound, size: int) -> None:
    """What its length was to be nobody knew."""
    path = tmp_path / "piped.wav"
    soundfile.write(path, sound(24000), 24000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert read_audio(path).seconds == 1


def bare(path: Path) -> bytes:
    """An MP3 without the frame that tells its length."""
    data = path.read_bytes()
    mpeg = walk_mpeg(data)
    assert mpeg is not None
    assert mpeg.told
    assert walk_mpeg(data[mpeg.begin :]) == replace(mpeg, begin=0, told=False)
    return data[mpeg.begin :]


def vague(path: Path, kind: str) -> bytes:
    """An MP3 whose first frame does not tell its length, or not in a way that the decoder reads."""
    data = bytearray(path.read_bytes())
    at = data.index(b"Xing")
    if kind == "no count":
        data[at + 7] &= 0xFE
    elif kind == "zero":
        data[at + 8 : at + 12] = bytes(4)
    else:
        data[4 : at + 120] = bytes(at + 116)
        data[36:40] = b"VBRI"
    return bytes(data)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize("kind", ["none", "no count", "zero", "VBRI", "ID3", "ID3 with a footer"])
def test_an_mp3_that_does_not_say_its_length(tmp_path: Path, sound: Sound, rate: int, channels: int, kind: str) -> None:
    """libsndfile guesses it from the first frames, which are large here, and reads what comes then as it is."""
    loud, soft = np.stack([sound(3 * rate, seed) for seed in range(channels)]), np.zeros((channels, 12 * rate))
    told, path = tmp_path / "told.mp3", tmp_path / "bare.mp3"
    soundfile.write(told, np.concatenate([0.5 * loud, soft], axis=1).T, rate, bitrate_mode="VARIABLE")
    pictures = b"\xff\xfb\x90" * 85 + b"\0"
    content = bare(told) if kind not in ("no count", "zero", "VBRI") else vague(told, kind)
    if kind.startswith("ID3"):
        footer = b"3DI" + bytes(7) if "footer" in kind else b""
        content = b"ID3\4\0" + bytes([16 if footer else 0]) + b"\0\0\2\0" + pictures + footer + content
    path.write_bytes(content)
    found, (begin, _) = read_audio(path).samples, soundfile.read(path, dtype="float32", always_2d=True)
    assert 15 * rate <= found.shape[1] < 15.3 * rate
    if kind == "VBRI":
        begin = begin[1152 if rate >= 32000 else 576 :]  # it takes that frame for a silent one
    else:
        assert len(begin) < 12 * rate
    same = min(len(begin), found.shape[1])
    np.testing.assert_allclose(found[:, :same], begin[:same].T, rtol=0, atol=1e-6)
    assert not found[:, -rate:].any() or np.abs(found[:, -rate:]).max() < 1e-3
    with AudioFile(path, max_seconds=4) as file:
        assert file.seconds == 4
        assert sum(block.shape[1] for block in file.blocks()) == 4 * rate


@pytest.mark.parametrize("name", ["a.mp3", "bare.mp3", "a.ogg", "a.opus", "a.w64", "a.rf64"])
def test_half_a_file(tmp_path: Path, sound: Sound, name: str) -> None:
    """Of an MP3 that says no length, half is all that there is."""
    path = tmp_path / name
    if name == "bare.mp3":
        soundfile.write(tmp_path / "a.mp3", sound(120_000), 24000)
        path.write_bytes(bare(tmp_path / "a.mp3"))
    else:
        kinds = {"opus": {"format": "OGG", "subtype": "OPUS"}}
        soundfile.write(path, sound(120_000), 24000, **kinds.get(path.suffix[1:], {}))
    assert read_audio(path).seconds == pytest.approx(5, abs=0.1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    if name == "bare.mp3":
        assert read_audio(path).seconds == pytest.approx(2.5, abs=0.1)
        return
    with pytest.raises(AudioError, match=rf"{name} is (cut off|damaged).*"):
        read_audio(path)
    assert read_audio(path, max_seconds=1).seconds == 1


def test_the_last_half_second_of_an_mp3_is_missed(tmp_path: Path, sound: Sound) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, sound(240_000), 24000)
    data = path.read_bytes()
    path.write_bytes(data[: int(0.995 * len(data))])
    assert read_audio(path).seconds == pytest.approx(10, abs=0.25)
    path.write_bytes(data[: int(0.95 * len(data))])
    with pytest.raises(
        AudioError, match=r"a\.mp3 is damaged: 9\.[45]. s of it can be decoded, its header says 10\.00 s"
    ):
        read_audio(path)


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_files_that_were_joined(tmp_path: Path, sound: Sound, name: str) -> None:
    for seed in range(2):
        soundfile.write(tmp_path / f"{seed}_{name}", sound(48000, seed), 24000)
    path = tmp_path / name
    path.write_bytes(b"".join((tmp_path / f"{seed}_{name}").read_bytes() for seed in range(2)))
    with pytest.raises(AudioError, match=r"holds 4\.1. s, of which 2\.00 s can be decoded|holds several streams"):
        read_audio(path)
    assert read_audio(path, max_seconds=1).seconds == 1


def test_an_ogg_file_that_does_not_say_that_it_ends(tmp_path: Path, sound: Sound) -> None:
    """And one with something between its pages, which is read all the same."""
    path = tmp_path / "a.ogg"
    soundfile.write(path, sound(240_000), 24000)
    data = path.read_bytes()
    last = data.rindex(b"OggS")
    page = data.index(b"OggS", len(data) // 2)
    path.write_bytes(data[:page] + bytes(50) + data[page:] + b"TAG" + bytes(125))
    assert read_audio(path).seconds == 10
    assert ogg_problem(data[: last + 5] + bytes([data[last + 5] & ~4]) + data[last + 6 :]) == (
        "is cut off, or was recorded from a stream: its last page does not say that it ends"
    )
    assert ogg_problem(data[:-1]) == ogg_problem(data[: last + 20]) == "is cut off in a page"
    assert ogg_problem(data[:last]) is not None
    assert ogg_problem(data) is None


@pytest.mark.parametrize("size", [0, 2**63 - 1, 2**64 - 1])
def test_a_w64_that_was_written_into_a_pipe(tmp_path: Path, sound: Sound, size: int) -> None:
    path = tmp_path / "a.w64"
    soundfile.write(path, sound(24000), 24000)
    data = bytearray(path.read_bytes())
    data[16:24] = size.to_bytes(8, "little")
    path.write_bytes(data)
    assert read_audio(path).seconds == 1


def test_an_rf64_whose_whole_is_told_too_large(tmp_path: Path, sound: Sound) -> None:
    path = tmp_path / "a.rf64"
    soundfile.write(path, sound(24000), 24000)
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[20:28], "little")
    data[20:28] = (size + 100).to_bytes(8, "little")
    path.write_bytes(data)
    assert read_audio(path).seconds == 1


def test_what_follows_an_mp3(tmp_path: Path, sound: Sound) -> None:
    """A tag with a picture in it, that looks like frames here and there."""
    path = tmp_path / "a.mp3"
    soundfile.write(path, sound(48000), 24000)
    data = path.read_bytes()
    seconds = walk_mpeg(data).seconds  # type: ignore[union-attr]
    data += b"APETAGEX" + 200 * (b"\xff\xfb\x90\x44" + bytes(100)) + b"TAG" + bytes(125)
    path.write_bytes(data)
    assert walk_mpeg(data).seconds == seconds  # type: ignore[union-attr]
    assert read_audio(path).seconds == 2


@pytest.mark.parametrize("data", [b"", b"\xff", b"ID3", bytes(1000), b"\xff\xe0" * 500, b"\xff\xfb\x00\x44" * 300])
def test_no_mpeg_frames(data: bytes) -> None:
    """None at all, or of a size that no header tells."""
    assert walk_mpeg(data) is None


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize(("second", "hertz"), [(0x90, 44100), (0x94, 48000), (0x58, 32000)])
def test_frames_of_other_layers(layer: int, second: int, hertz: int) -> None:
    """By the sizes that the standard gives: 12 or 144 times the bit rate over the sample rate."""
    kilobits = {(1, 0x90): 288, (1, 0x94): 288, (1, 0x58): 160, (2, 0x90): 160, (2, 0x94): 160, (2, 0x58): 80}
    rate = 1000 * kilobits[layer, second]
    size = 12 * rate // hertz * 4 if layer == 1 else 144 * rate // hertz
    header = bytes([0xFF, 0xFF if layer == 1 else 0xFD, second, 0])
    found = walk_mpeg(7 * (header + bytes(size - 4)))
    assert found is not None
    assert (found.frames, found.told) == (7, False)
    assert found.seconds == pytest.approx(7 * (384 if layer == 1 else 1152) / hertz)


@pytest.mark.parametrize("extra", [1, 8, 44])
def test_a_wav_that_counts_its_header_too(tmp_path: Path, sound: Sound, extra: int) -> None:
    path = tmp_path / "counted.wav"
    soundfile.write(path, sound(24000), 24000)
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = (48000 + extra).to_bytes(4, "little")
    path.write_bytes(content)
    assert read_audio(path).seconds == 1


@pytest.mark.parametrize("block", [audio_file._BLOCK, 1000, 700])
def test_a_flac_that_does_not_say_its_length(
    tmp_path: Path, sound: Sound, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """What a pipe was written to."""
    monkeypatch.setattr(audio_file, "_BLOCK", block)
    path = tmp_path / "piped.flac"
    soundfile.write(path, sound(5000), 24000)
    expected = read_audio(path).samples
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    np.testing.assert_array_equal(read_audio(path).samples, expected)
    for most, samples in ((None, 5000), (1.0, 5000), (0.1, 2400)):
        with AudioFile(path, max_seconds=most) as file:
            assert file.seconds == samples / 24000
            assert sum(part.shape[1] for part in file.blocks()) == samples


def test_it_is_closed_in_the_end(write_wav: Callable[..., Path], sound: Sound) -> None:
    with AudioFile(write_wav("a.wav", sound(500))) as file:
        pass
    with pytest.raises(AudioError, match="closed file"):
        next(file.blocks())


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"gone\.wav does not exist; expected an audio file\. Check the path"):
        read_audio(tmp_path / "gone.wav")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="is a folder; expected an audio file"):
        read_audio(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match=r"pipe\.wav is not a regular file; expected an audio file"):
        read_audio(tmp_path / "pipe.wav")


@pytest.mark.parametrize(
    "name", ["notes.wav", "notes.flac", "notes.mp3", "notes.ogg", "notes.txt", "notes.raw", "notes"]
)
def test_a_text_file_is_not_decoded(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("These are notes, and no audio.\n" * 9)
    with pytest.raises(
        AudioError, match=r"notes.* \(279 bytes\) cannot be decoded.*re-encode it or leave it out"
    ) as info:
        read_audio(tmp_path / name)
    assert str(info.value).count(name) == 1


@pytest.mark.parametrize("name", ["empty.wav", "empty.flac", "empty.mp3", "empty.ogg"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(AudioError, match=r"empty.* \(0 bytes\) cannot be decoded"):
        read_audio(tmp_path / name)


def test_a_file_without_samples(write_wav: Callable[..., Path]) -> None:
    with pytest.raises(AudioError, match=r"none\.wav holds no samples\. Leave it out, or render it again"):
        read_audio(write_wav("none.wav", np.zeros(0)))


def test_all_that_is_not_finite_is_counted(write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is decoded before the file's end is known holds none of it."""
    monkeypatch.setattr(audio_file, "_BLOCK", 2 * 100)
    samples = np.ones((2, 1000), np.float32)
    samples[0, [250, 999]], samples[1, 950] = np.nan, np.inf
    with AudioFile(write_wav("bad.wav", samples)) as file:
        blocks = file.blocks()
        assert [float(next(blocks).sum()) for _ in range(2)] == [200, 200]
        with pytest.raises(AudioError, match=r"bad\.wav holds 3 samples that are NaN, infinite"):
            next(blocks)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(write_wav: Callable[..., Path], bad: float) -> None:
    with pytest.raises(AudioError, match=r"bad\.wav holds 1 samples that are NaN, infinite.*Render it again"):
        read_audio(write_wav("bad.wav", [0, bad, 0.5]))


@pytest.mark.skipif(sys.platform != "linux", reason="file names must be text here")
def test_a_name_that_is_no_text(write_wav: Callable[..., Path], sound: Sound, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/lat\xe9.wav"))
    write_wav("a.wav", sound()).rename(path)
    np.testing.assert_array_equal(read_audio(path).samples[0], sound())
    path.write_text("no audio")
    with pytest.raises(AudioError, match=r"lat\S+\.wav \(8 bytes\) cannot be decoded"):
        read_audio(path)


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x\.wav (cannot be read \(.*\)\. Check the path|does not exist)"):
        read_audio(tmp_path / ("x" * 300 + ".wav"))
    with pytest.raises(AudioError, match="does not exist"):
        read_audio(tmp_path / "a\0.wav")


def test_a_file_that_may_not_be_read(write_wav: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    def fail(*_: Any) -> None:
        raise soundfile.LibsndfileError(2)

    path = write_wav("a.wav", [0.5])
    monkeypatch.setattr(soundfile, "SoundFile", fail)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(AudioError, match=r"a\.wav cannot be read \(Permission denied\)\. Check the path and its perm"):
        read_audio(path)


def test_frames_with_checksums_get_one_before_them_without() -> None:
    """Where a checksum is said to follow, its place would be taken from the tag and the silence."""
    frame = b"\xff\xfa\x90\x00" + bytes(413)  # layer 3, 128 kbit/s, 44.1 kHz, stereo, with a checksum
    data = 3 * frame
    mpeg = walk_mpeg(data)
    assert mpeg is not None
    assert (mpeg.begin, mpeg.frames, mpeg.told) == (0, 3, False)
    content, _ = with_length(data, mpeg)
    assert content[: 2 * len(frame)][:: len(frame)] == b"\xff\xff"
    assert (content[1], content[len(frame) + 1]) == (0xFB, 0xFB)
    assert content.index(b"Xing") == 4 + 32  # behind the side information
    assert content[2 * len(frame) :] == data
