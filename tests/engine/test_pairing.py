from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mertric.errors import PairingError
from mertric.files import find_audio
from mertric.names import Numbers, identifiers
from mertric.pairing import Pair, pair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Folder = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Make a folder with empty files."""

    def make(name: str, *files: str) -> Path:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / name

    return make


def found(pairs: list[Pair]) -> dict[tuple[str | None, str | None], str | None]:
    """Names of each pair's files, and its problem."""
    return {
        (p.reference and p.reference.name, p.estimate and p.estimate.name): p.problem  # type: ignore[misc]
        for p in pairs
    }


def test_equal_paths(folder: Folder) -> None:
    reference = folder("ref", "b/x.wav", "a/x.wav", "y.wav")
    estimate = folder("est", "a/x.wav", "b/x.wav", "y.wav")
    pairs = pair(reference, [estimate])
    assert [p.reference for p in pairs] == sorted(reference.rglob("*.wav"))
    for p in pairs:
        assert p.reference is not None
        assert p.estimate == estimate / p.reference.relative_to(reference)
        assert (p.model, p.problem) == ("est", None)


def test_another_ending(folder: Folder) -> None:
    pairs = pair(folder("ref", "a/x.wav", "y.flac"), [folder("est", "a/x.FLAC", "y.ogg")])
    assert found(pairs) == {("x.wav", "x.FLAC"): None, ("y.flac", "y.ogg"): None}


def test_composed_and_decomposed_names_are_equal(folder: Folder) -> None:
    pairs = pair(folder("ref", "Bj\u00f6rk/x.wav", "\u00fc.wav"), [folder("est", "Bjo\u0308rk/x.wav", "u\u0308.flac")])
    assert found(pairs) == {("x.wav", "x.wav"): None, ("\u00fc.wav", "u\u0308.flac"): None}


def test_an_equal_path_comes_before_another_ending(folder: Folder) -> None:
    pairs = pair(folder("ref", "x.wav"), [folder("est", "x.flac", "x.wav")])
    problems = found(pairs)
    assert problems["x.wav", "x.wav"] is None
    assert problems[None, "x.flac"] is not None


def test_identifiers_as_gensvs_names_them(folder: Folder) -> None:
    reference = folder("target", "target_fileid_1.wav", "target_fileid_12.wav", "target_fileid_121.wav")
    names = [f"separated_vocals_mixture_fileid_{number}.wav" for number in (121, 12, 1)]
    pairs = pair(reference, [folder("sgmsvs", *names)])
    assert found(pairs) == {
        (f"target_fileid_{number}.wav", f"separated_vocals_mixture_fileid_{number}.wav"): None
        for number in (1, 12, 121)
    }


@pytest.mark.parametrize(
    ("references", "estimates"),
    [
        (["U2 - One", "Blink182 - Dammit"], ["U2 - Vertigo", "Blink182 - Dammit"]),
        (["take2_intro", "verse"], ["take2_outro", "chorus"]),
        (["U2 - One"], ["U2 - Vertigo"]),
        (["U2 - One", "Abba"], ["U2 - Vertigo"]),
    ],
)
def test_a_number_in_a_name_is_no_identifier(folder: Folder, references: list[str], estimates: list[str]) -> None:
    """Unless several or all are numbered so."""
    pairs = pair(
        folder("ref", *(f"{name}.wav" for name in references)), [folder("est", *(f"{name}.wav" for name in estimates))]
    )
    same = {*references} & {*estimates}
    assert {p.track for p in pairs if p.problem is None} == same
    assert {p.problem for p in pairs} - {None} == {f"no partner in {folder(side)}" for side in ("ref", "est")}


def test_numbers_that_not_all_have(folder: Folder) -> None:
    reference = folder("ref", "x_id_1.wav", "x_id_2.wav", "intro.wav")
    estimate = folder("est", "y_id_1.wav", "y_id_2.wav", "outro.wav")
    assert sum(p.problem is None for p in pair(reference, [estimate])) == 2
    assert [p.problem for p in pair(folder("one", "x_id_7.wav"), [folder("other", "y_id_7.wav")])] == [None]


def test_one_side_that_is_numbered_will_do(folder: Folder) -> None:
    reference = folder("ref", "vocals_7.wav", "vocals_8.wav")
    estimate = folder("est", "mix_vocals_8_net.wav", "mix_vocals_7_net.wav", "notes.wav")
    assert sum(p.problem is None for p in pair(reference, [estimate])) == 2


def test_a_dot_in_a_folder_s_name(folder: Folder) -> None:
    reference = folder("ref", "Mr. Song_1/vocals.wav", "Mr. Song_2/vocals.wav")
    estimate = folder("est", "Mr. Song_2 (out)/vocals.wav", "Mr. Song_1 (out)/vocals.wav")
    assert [p.problem for p in pair(reference, [estimate])] == [None, None]


def test_case_alone(folder: Folder) -> None:
    reference = folder("ref", "song a/Vocals.wav", "b/X.wav", "b/x.wav")
    estimate = folder("est", "song a/vocals.wav", "b/x.wav")
    pairs = found(pair(reference, [estimate]))
    assert pairs["Vocals.wav", "vocals.wav"] is None
    assert pairs["x.wav", "x.wav"] is None
    assert pairs["X.wav", None] is not None


def test_names_that_go_on(folder: Folder) -> None:
    """As separators write them."""
    reference = folder("ref", "001.wav", "Song.wav", "song two.wav", "x.wav", "y.wav", "disc/7.wav")
    files = ["001_sep", "Song_(Vocals)_net", "song two-out", "x_2", "yes", "disc/7_sep"]
    estimate = folder("est", *(f"{name}.wav" for name in files))
    paired = {pair for pair, problem in found(pair(reference, [estimate])).items() if problem is None}
    assert paired == {
        ("001.wav", "001_sep.wav"),
        ("Song.wav", "Song_(Vocals)_net.wav"),
        ("song two.wav", "song two-out.wav"),
        ("7.wav", "7_sep.wav"),
    }


@pytest.mark.parametrize(
    ("references", "estimates"),
    [
        (["song"], ["song_(Vocals)_net", "song_(Instrumental)_net"]),
        (["t/bass"], ["t/bass_drum"]),
        (["song"], ["song/vocals"]),
        (["song"], ["song_2_(Vocals)_m"]),
        (["song"], ["song (2)_vocals"]),
        (["song 1"], ["song 1.5_vocals"]),
    ],
)
def test_names_that_go_on_in_several_ways(folder: Folder, references: list[str], estimates: list[str]) -> None:
    pairs = pair(
        folder("ref", *(f"{name}.wav" for name in references)), [folder("est", *(f"{name}.wav" for name in estimates))]
    )
    assert all(p.problem for p in pairs)


@pytest.mark.parametrize(
    ("references", "estimates"),
    [
        (["Song A/vocals", "Song B/vocals"], ["song a/vocals", "song b/vocals"]),
        (["Vocals/a", "Drums/a"], ["vocals/a", "drums/a"]),
        (["Caf\u00e9/vocals", "b/vocals"], ["Cafe\u0301/vocals", "b/vocals"]),
        (["a/Caf\u00e9", "a/b"], ["a/cafe\u0301", "a/b"]),
    ],
)
def test_folders_that_are_spelled_otherwise(folder: Folder, references: list[str], estimates: list[str]) -> None:
    pairs = pair(
        folder("ref", *(f"{name}.wav" for name in references)), [folder("est", *(f"{name}.wav" for name in estimates))]
    )
    assert [(p.problem, p.model) for p in pairs] == [(None, "est")] * 2


def test_a_song_and_its_second(folder: Folder) -> None:
    """The second one's estimate is none of the first's, and takes nothing from it."""
    estimate = folder("est", "song_(Vocals)_m.wav", "song_2_(Vocals)_m.wav", "song_5stems_x.wav")
    pairs = found(pair(folder("ref", "song.wav", "song_2.wav"), [estimate]))
    assert pairs["song_2.wav", "song_2_(Vocals)_m.wav"] is None
    assert pairs["song.wav", None] is not None
    (estimate / "song_5stems_x.wav").unlink()
    pairs = found(pair(folder("ref", "song.wav", "song_2.wav"), [estimate]))
    assert pairs["song.wav", "song_(Vocals)_m.wav"] is None


def test_sums_in_folders_are_left_out(folder: Folder) -> None:
    files = [f"{stem}/{track}.wav" for stem in ("vocals", "drums", "mixture", "accompaniment") for track in "ab"]
    pairs = pair(folder("ref", *files), [folder("est", *files)])
    assert {(p.track, p.stem) for p in pairs} == {(track, stem) for stem in ("vocals", "drums") for track in "ab"}
    alone = [f"{stem}/a.wav" for stem in ("vocals", "accompaniment")]
    assert {p.stem for p in pair(folder("ref2", *alone), [folder("est2", *alone)])} == {"vocals", "accompaniment"}


def test_folders_of_stems(folder: Folder) -> None:
    files = ["vocals/t1.wav", "drums/t1.wav", "vocals/t2.wav", "disc/Bass/t3.wav", "other/vocals.wav"]
    pairs = pair(folder("ref", *files), [folder("est", *files)])
    assert {(p.track, p.stem, p.problem) for p in pairs} == {
        ("t1", "vocals", None),
        ("t1", "drums", None),
        ("t2", "vocals", None),
        ("disc/t3", "Bass", None),
        ("other", "vocals", None),
    }


def test_a_partner_of_a_kind_that_is_not_read(folder: Folder) -> None:
    estimate = folder("est", "t1/bass.wav", "t1/vocals.m4a")
    problems = found(pair(folder("ref", "t1/vocals.wav", "t1/bass.wav"), [estimate]))
    assert problems["vocals.wav", None] == (f"no partner in {estimate}, where vocals.m4a is of a kind that is not read")


def test_a_model_whose_name_has_a_number_of_a_track(folder: Folder) -> None:
    models = folder("models", "u2net/U2 - One.wav", "u2net/x.wav")
    assert {p.model for p in pair(folder("ref", "U2 - One.wav", "x.wav"), [models])} == {"u2net"}


def test_a_folder_without_audio_among_models(folder: Folder) -> None:
    """It may be a model that failed: its rows say so."""
    models = folder("models", "A/x.wav", "logs/log.txt")
    pairs = pair(folder("ref", "x.wav"), [models])
    assert [(p.model, p.problem) for p in pairs] == [("A", None), ("logs", f"no partner in {models / 'logs'}")]


def test_sorted_order_is_never_a_partner(folder: Folder) -> None:
    pairs = pair(folder("ref", "a.wav", "b.wav"), [folder("est", "c.wav", "d.wav")])
    assert {(p.reference is None) + (p.estimate is None) for p in pairs} == {1}
    assert len(pairs) == 4
    assert all("no partner in" in (p.problem or "") for p in pairs)


def test_what_is_left_on_each_side_is_said(folder: Folder) -> None:
    reference, estimate = folder("ref", "x.wav", "only_here.wav"), folder("est", "x.wav", "only_there.wav")
    problems = found(pair(reference, [estimate]))
    assert problems["only_here.wav", None] == f"no partner in {estimate}"
    assert problems[None, "only_there.wav"] == f"no partner in {reference}"
    assert problems["x.wav", "x.wav"] is None


def test_an_ambiguous_identifier_is_not_guessed(folder: Folder) -> None:
    reference = folder("ref", "target_id_3.wav", "target_id_4.wav")
    estimate = folder("est", "one_id_3.wav", "two_id_3.wav", "one_id_4.wav")
    problems = found(pair(reference, [estimate]))
    assert problems["target_id_4.wav", "one_id_4.wav"] is None
    assert problems["target_id_3.wav", None] == "ambiguous: could belong to one_id_3.wav, two_id_3.wav"
    rival = "ambiguous: could belong to target_id_3.wav, as could "
    assert problems[None, "one_id_3.wav"] == rival + "two_id_3.wav"
    assert problems[None, "two_id_3.wav"] == rival + "one_id_3.wav"


def test_identifiers_that_point_to_different_files(folder: Folder) -> None:
    """song1 and take2 are each unique, but of two files: neither is taken."""
    reference = folder("ref", "song1_take2.wav")
    estimate = folder("est", "song1_take5.wav", "song7_take2.wav")
    problems = found(pair(reference, [estimate]))
    assert len(problems) == 3
    assert all(problem and problem.startswith("ambiguous") for problem in problems.values())


def test_an_identifier_of_a_folder_pairs_files_of_one_name_in_any_case(folder: Folder) -> None:
    reference, estimate = folder("ref", "track_1/Bass.wav"), folder("est", "out_track_1/bass.wav")
    assert found(pair(reference, [estimate])) == {("Bass.wav", "bass.wav"): None}


def test_a_word_with_a_number_that_all_share_does_no_harm(folder: Folder) -> None:
    reference = folder("ref", "v2_fileid_1.wav", "v2_fileid_2.wav")
    estimate = folder("est", "net4_v2_fileid_2.wav", "net4_v2_fileid_1.wav")
    assert set(found(pair(reference, [estimate]))) == {
        ("v2_fileid_1.wav", "net4_v2_fileid_1.wav"),
        ("v2_fileid_2.wav", "net4_v2_fileid_2.wav"),
    }


@pytest.mark.parametrize(
    ("references", "estimates", "paired"),
    [
        (["song_1_take1", "song_2_take1", "song_3_take1"], ["song_1_take1", "song_2_take1", "song_4_take1"], 2),
        (["track01_bass", "track01_vocals"], ["track01_bass", "track01_drums"], 1),
        (["x_1/take1_vocals", "x_2/take1_vocals"], ["x_1/take1_vocals", "x_3/take1_vocals"], 1),
    ],
)
def test_what_all_share_does_not_pair_the_rest(
    folder: Folder, references: list[str], estimates: list[str], paired: int
) -> None:
    """An identifier that files which are paired have too is no one's own."""
    pairs = pair(
        folder("ref", *(f"{name}.wav" for name in references)), [folder("est", *(f"{name}.wav" for name in estimates))]
    )
    assert sum(p.problem is None for p in pairs) == paired
    assert all(p.problem and p.problem.startswith("no partner in") for p in pairs[paired:])


@pytest.mark.parametrize(
    ("files", "tracks"),
    [
        (["alpha_sr24000", "beta_sr24000"], {"alpha_sr24000", "beta_sr24000"}),
        (["target_fileid_1", "target_fileid_2"], {"fileid_1", "fileid_2"}),
        (["song1_vocals", "song1_Drums", "bass-song2", "accompaniment song2"], {"song1", "song2"}),
        (["song1_vocals", "song1_mixture"], {"song1_vocals", "song1_mixture"}),
        (["a_1_b_2", "plain"], {"a_1_b_2", "plain"}),
        (["song_1", "song_1_take2"], {"song_1", "song_1_take2"}),
        (["take.1", "take.2"], {"take.1", "take.2"}),
    ],
)
def test_tracks_of_a_flat_folder(folder: Folder, files: list[str], tracks: set[str]) -> None:
    """Files are one track only if they are named as its stems."""
    reference = folder("ref", *(f"{name}.wav" for name in files))
    assert {p.track for p in pair(reference, [reference])} == tracks


def test_files_that_differ_in_their_ending_alone_are_no_track(folder: Folder) -> None:
    reference = folder("ref", "x.wav", "x.flac", "y.wav")
    assert sorted(p.track or "" for p in pair(reference, [reference])) == ["x.flac", "x.wav", "y"]


def test_a_folder_against_itself(folder: Folder) -> None:
    same = folder("ref", "a.wav", "b_1.wav")
    assert [(p.reference, p.estimate) for p in pair(same, [same])] == [(path, path) for path in find_audio(same)]


def test_several_models_in_the_order_given(folder: Folder) -> None:
    reference = folder("ref", "x.wav")
    pairs = pair(reference, [folder("models/zeta", "x.wav"), folder("models/alpha", "x.wav")])
    assert [p.model for p in pairs] == ["zeta", "alpha"]


def test_what_is_hidden_in_a_folder_of_models_is_no_model(folder: Folder) -> None:
    reference = folder("ref", "x.wav")
    models = folder("models", "A/x.wav", "B/x.wav", ".trash/x.wav", "._x.wav")
    assert [p.model for p in pair(reference, [models])] == ["A", "B"]


def test_models_of_one_name_are_told_apart(folder: Folder) -> None:
    reference = folder("ref", "x.wav")
    pairs = pair(reference, [folder("one/out", "x.wav"), folder("two/out", "x.wav")])
    assert [p.model for p in pairs] == ["one/out", "two/out"]


def test_files_with_a_file(folder: Folder) -> None:
    reference, estimates = folder("ref", "x.wav") / "x.wav", folder("est", "a.wav", "b.txt")
    pairs = pair(reference, [estimates / "b.txt", estimates / "a.wav", reference])
    assert [p.estimate for p in pairs] == [estimates / "b.txt", estimates / "a.wav", reference]
    assert {p.reference for p in pairs} == {reference}
    assert {p.problem for p in pairs} == {p.model for p in pairs} == {None}


def test_what_is_no_audio_or_hidden_is_left_out(folder: Folder) -> None:
    names = ["x.wav", "notes.txt", ".hidden.wav", "._x.wav", ".trash/y.wav", "deep/er/z.MP3"]
    assert [path.name for path in find_audio(folder("ref", *names))] == ["z.MP3", "x.wav"]


def test_sums_are_left_out_where_their_parts_are(folder: Folder) -> None:
    """Beside the vocals alone, the accompaniment is a part."""
    names = ["a/vocals.wav", "a/accompaniment.wav", "b/vocals.wav", "b/Bass.wav", "b/Mixture.wav"]
    reference = folder("ref", *names)
    pairs = pair(reference, [reference])
    assert sorted(f"{p.track}/{p.stem}" for p in pairs) == ["a/accompaniment", "a/vocals", "b/Bass", "b/vocals"]


def test_a_folder_that_links_to_itself_is_entered_once(folder: Folder) -> None:
    reference = folder("ref", "a/x.wav")
    (reference / "a" / "loop").symlink_to(reference, target_is_directory=True)
    assert find_audio(reference) == [reference / "a" / "x.wav"]


def test_a_hidden_place_hides_nothing(folder: Folder) -> None:
    assert len(find_audio(folder(".cache/ref", "x.wav"))) == 1


@pytest.mark.parametrize("gone", ["reference", "estimate"])
def test_a_missing_folder(folder: Folder, tmp_path: Path, gone: str) -> None:
    here, nowhere = folder("ref", "x.wav"), tmp_path / "nowhere"
    arguments = (nowhere, [here]) if gone == "reference" else (here, [here, nowhere])
    with pytest.raises(PairingError, match=r"nowhere does not exist\. Check the path"):
        pair(*arguments)


def test_a_folder_without_audio(folder: Folder) -> None:
    full, empty = folder("ref", "x.wav"), folder("est", "x.txt")
    for arguments in ((full, [empty]), (empty, [full])):
        with pytest.raises(PairingError, match=r"est holds no audio files; expected files that end in \.aif"):
            pair(*arguments)


def test_kinds_do_not_mix(folder: Folder) -> None:
    here, there = folder("ref", "x.wav"), folder("est", "x.wav")
    with pytest.raises(PairingError, match=r"ref is a folder but .*x\.wav is a file; expected folders with a folder"):
        pair(here, [there, there / "x.wav"])
    with pytest.raises(PairingError, match=r"x\.wav is a file but .*est is a folder; expected files with a file"):
        pair(here / "x.wav", [there])


def test_the_same_estimate_twice(folder: Folder) -> None:
    here, there = folder("ref", "x.wav"), folder("est", "x.wav")
    with pytest.raises(PairingError, match=r"est is given twice as an estimate\. Give each once"):
        pair(here, [there, here / ".." / "est"])


def test_a_link_in_a_folder_of_models_is_a_model(folder: Folder) -> None:
    here, models = folder("ref", "x.wav"), folder("models", "A/x.wav", "B/x.wav")
    (models / "latest").symlink_to(models / "B", target_is_directory=True)
    assert [p.model for p in pair(here, [models])] == ["A", "B", "latest"]


def test_a_folder_with_two_names_is_paired_by_its_own(folder: Folder) -> None:
    """In whichever order the file system has them."""
    for name, links in (("ref", ("0", "a/0", "b/1")), ("est", ("a/1", "z"))):
        root = folder(name, "song/x.wav", "a/y.wav", "b/z.wav")
        for link in links:
            (root / link).symlink_to(root / "song", target_is_directory=True)
    assert [p.problem for p in pair(folder("ref"), [folder("est")])] == [None] * 3


def test_a_model_beside_the_folder_that_holds_it(folder: Folder) -> None:
    here, models = folder("ref", "x.wav"), folder("models", "A/x.wav", "B/x.wav")
    with pytest.raises(PairingError, match=r"A is given twice as an estimate\. Give each once"):
        pair(here, [models, models / "A"])


def test_identifiers(tmp_path: Path) -> None:
    path = tmp_path.relative_to(tmp_path) / "Song 07" / "FileID_12-take3 (v2).mp3"
    assert identifiers(path) == {"fileid_12", "take3", "v2"}


names = st.lists(st.sampled_from(["a", "b_1", "c_1", "d_2", "x_1_y_2", "e/a", "e/b_2"]), min_size=1, unique=True)


@given(names, names)
@example(["a"], ["e/a"])
def test_every_file_is_in_exactly_one_row(
    tmp_path_factory: pytest.TempPathFactory, left: list[str], right: list[str]
) -> None:
    home = tmp_path_factory.mktemp("pairs")
    for side, files in (("ref", left), ("est", right)):
        for name in files:
            path = home / side / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    of_models = all(name.startswith("e/") for name in right) and not any(name.startswith("e/") for name in left)
    model = home / "est" / "e" if of_models else home / "est"
    pairs = pair(home / "ref", [home / "est"])
    assert sorted(p.reference for p in pairs if p.reference) == find_audio(home / "ref")
    assert sorted(p.estimate for p in pairs if p.estimate) == find_audio(home / "est")
    for p in pairs:
        assert (p.problem is None) == (p.reference is not None and p.estimate is not None)
        if p.reference and p.estimate:
            below = p.reference.relative_to(home / "ref"), p.estimate.relative_to(model)
            assert below[0] == below[1] or identifiers(below[0]) & identifiers(below[1])


def test_names_as_text(folder: Folder) -> None:
    reference, estimate = folder("ref", "x.wav"), folder("est", "x.wav")
    assert pair(str(reference), [str(estimate)]) == pair(reference, [estimate])
    for alone in (estimate, str(estimate)):
        with pytest.raises(PairingError, match="expected a sequence of paths, such as"):
            pair(reference, alone)  # type: ignore[arg-type]


def test_another_stem_of_the_track_is_no_candidate(folder: Folder) -> None:
    """So what is missing is not said to be ambiguous."""
    reference = folder("ref", "TRACK_1/bass.wav", "TRACK_1/vocals.wav", "TRACK_2/vocals.wav")
    estimate = folder("est", "TRACK_1/drums.wav", "TRACK_1/vocals.wav", "TRACK_2/vocals.wav")
    problems = {problem for problem in found(pair(reference, [estimate])).values() if problem}
    assert problems == {f"no partner in {estimate}", f"no partner in {reference}"}


def test_a_folder_that_goes_on_with_a_name_is_no_file_of_it(folder: Folder) -> None:
    reference = folder("ref", "song.wav", "tune.wav")
    estimate = folder("est", "song_old/take.wav", "tune.wav")
    assert found(pair(reference, [estimate])) == {
        ("tune.wav", "tune.wav"): None,
        ("song.wav", None): f"no partner in {estimate}",
        (None, "take.wav"): f"no partner in {reference}",
    }


def test_a_name_goes_on_with_a_word(folder: Folder) -> None:
    reference, estimate = folder("ref", "song.wav", "tune.wav"), folder("est", "song_.wav", "tune_(x).wav")
    assert found(pair(reference, [estimate])) == {
        ("song.wav", None): f"no partner in {estimate}",
        (None, "song_.wav"): f"no partner in {reference}",
        ("tune.wav", "tune_(x).wav"): None,
    }


def test_a_folder_that_may_not_be_listed_costs_itself_alone(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the lost+found of a disk."""
    reference = folder("ref", "a.wav", "lost+found/x.wav")
    estimate = folder("est", "a.wav")
    real, closed = Path.iterdir, reference / "lost+found"

    def iterdir(path: Path) -> Iterator[Path]:
        if path == closed:
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.warns(UserWarning, match=r"lost\+found cannot be listed \(Permission denied\): what is in it"):
        assert found(pair(reference, [estimate])) == {("a.wav", "a.wav"): None}
    closed = reference
    with pytest.raises(PermissionError):
        pair(reference, [estimate])


def test_many_files_without_partners_are_looked_at_once_each(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a look at those that share an identifier, not at all that are left."""
    count = 60
    reference = folder("ref", *(f"fileid_{n}_{take}.wav" for n in range(count) for take in "ab"))
    estimate = folder("est", *(f"fileid_{n}_{take}.wav" for n in range(count) for take in "xyz"))
    asked = []
    real = Numbers.same_part
    monkeypatch.setattr(Numbers, "same_part", lambda self, a, b: asked.append((a, b)) or real(self, a, b))
    problems = found(pair(reference, [estimate]))
    assert len(problems) == 5 * count
    ends = "fileid_7_x.wav, fileid_7_y.wav, fileid_7_z.wav, as could fileid_7_b.wav"
    assert problems["fileid_7_a.wav", None] == f"ambiguous: could belong to {ends}"
    assert len(asked) < 20 * count
