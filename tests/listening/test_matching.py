from __future__ import annotations

import json

import numpy as np
import pytest

from mertric.errors import InputError, TableError
from mertric.listening.analysis import groups
from mertric.listening.items import Item
from mertric.listening.matching import match
from mertric.listening.ratings import read_ratings
from mertric.listening.scores import Metric, identify, read_scores

LONG = "model,track,stem,rating\n"


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"estimate": "out/sgmsvs/separated_vocals_mixture_fileid_12.wav"}, ("sgmsvs", "fileid_12", "")),
        ({"estimate": "out/IRM1/A - B/vocals.wav"}, ("IRM1", "A - B", "vocals")),
        ({"estimate": "C:\\out\\IRM1\\A - B\\bass.wav"}, ("IRM1", "A - B", "bass")),
        ({"estimate": "out/m/song.wav"}, ("m", "song", "")),
        ({"estimate": "out/m/x.wav", "model": "n", "track": "t", "stem": "s"}, ("n", "t", "s")),
        ({"model_name": "n", "file_id": "fileid_3"}, ("n", "fileid_3", "")),
    ],
)
def test_identify(row, expected):
    item = identify(row)
    assert (item.model, item.track, item.stem) == expected


def test_tables_saved_again_by_pandas(write):
    """It writes whole numbers with a point where some are missing, and the index as a column without a name."""
    scores = read_scores(write("s.csv", ",Unnamed: 0,id,layer,sdr\n0,0,x,4.0,1\n1,1,x,12.0,2\n2,2,y,,3\n3,3,z,4.5,4\n"))
    assert scores.metrics == ("sdr",)
    assert [item.values for item in scores.items] == [{("sdr", 4): 1, ("sdr", 12): 2}, {("sdr", None): 3}]
    assert [str(problem) for problem in scores.problems] == [
        "s.csv, line 5: layer '4.5' is not a whole number; row skipped"
    ]


def test_metrics_are_the_numeric_columns_that_name_nothing(write):
    text = "file_id,model_name,layer,frames,status,rating_0,DMOS,comment,sdr,isr\n"
    text += "fileid_1,m,12,374,ok,3,3,fine,1.5,inf\n"
    scores = read_scores(write("s.csv", text))
    assert scores.metrics == ("sdr", "isr")
    assert scores.items[0].values == {("sdr", 12): 1.5, ("isr", 12): float("inf")}


def test_malformed_scores_and_failed_rows_are_reported(write):
    text = "estimate,layer,status,sdr\na/x.wav,,ok,1\na/y.wav,,ok,n/a\na/z.wav,,silent reference,\n"
    text += "a/w.wav,deep,ok,1\na/v.wav,,ok,2\n"
    scores = read_scores(write("s.csv", text))
    assert list(map(str, scores.problems)) == [
        "s.csv, line 3: sdr is 'n/a', not a number; counted as missing",
        "s.csv, line 5: layer 'deep' is not a whole number; row skipped",
    ]
    assert scores.notes == ("1 rows with status 'silent reference'",)


def test_scores_without_metrics_and_with_two_scores(write):
    with pytest.raises(TableError, match="has no metric: found the columns id, layer"):
        read_scores(write("s.csv", "id,layer\nx,1\n"))
    with pytest.raises(TableError, match=r"s.csv, line 3: a/x.wav has a second sdr on layer 2"):
        read_scores(write("s.csv", "estimate,layer,sdr\na/x.wav,2,1\na/x.wav,2,3\n"))


def test_join_by_file_id_lists_what_is_left_over(write):
    rows = [
        {"estimate": f"out/m/separated_vocals_mixture_fileid_{n}.wav", "layer": 12, "mert_mse": n / 10}
        for n in (1, 2, 3)
    ]
    scores = read_scores(write("s.json", json.dumps(rows)))
    ratings = read_ratings(
        write(
            "g.csv",
            "file_id,model_name,model_type,DMOS\nfileid_2,M,generative,4\nfileid_1,m,generative,5\nfileid_9,m,generative,1\n",
        )
    )
    joined = match(scores, ratings)
    assert joined.items[0] == Item(model="M", track="fileid_2", stem="vocals", model_type="generative")
    np.testing.assert_array_equal(joined.ratings, [4, 5])
    np.testing.assert_array_equal(joined.metrics[Metric("mert_mse")], [0.2, 0.1])
    assert joined.unmatched_scores == ("out/m/separated_vocals_mixture_fileid_3.wav",)
    assert joined.unmatched_ratings == ("m/fileid_9/vocals",)


def test_join_by_model_track_stem_ignores_case_and_unicode_form(write):
    scores = read_scores(write("s.csv", "estimate,sdr\nout/M/Bjo\u0308rk/vocals.wav,1\nout/M/Bjo\u0308rk/bass.wav,2\n"))
    ratings = read_ratings(write("r.csv", LONG + "m,Björk,Bass,30\nm,Björk,Vocals,70\n"))
    joined = match(scores, ratings)
    np.testing.assert_array_equal(joined.ratings, [30, 70])
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [2, 1])


def test_join_by_id_takes_the_path_ending(write):
    scores = read_scores(write("s.csv", "estimate,sdr\nout/a/x.wav,1\nout/b/x.wav,2\nout/b/y.wav,3\n"))
    joined = match(scores, read_ratings(write("r.csv", "id,rating\nb/x.wav,5\n./a/x,4\ny,3\n")))
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [2, 1, 3])
    assert (joined.unmatched_scores, joined.unmatched_ratings) == ((), ())
    with pytest.raises(TableError, match=r"the rating of x.wav fits 2 estimates \(out/a/x.wav, out/b/x.wav\)"):
        match(scores, read_ratings(write("r.csv", "id,rating\nx.wav,5\n")))


def test_an_id_that_is_a_path_from_here(write):
    scores = read_scores(write("s.csv", "id,sdr\n./a/b,1\na/c,2\n./a/d,3\n"))
    rated = match(scores, read_ratings(write("r.csv", "id,rating\n./a/b,5\n./a/c,4\na/d,3\n")))
    assert [values.tolist() for values in rated.metrics.values()] == [[1, 2, 3]]


def test_stems_that_ratings_leave_out_are_ambiguous(write):
    scores = read_scores(write("s.csv", "estimate,sdr\no/m/t/vocals.wav,1\no/m/t/bass.wav,2\n"))
    with pytest.raises(TableError, match="the rating of m/t fits 2 estimates"):
        match(scores, read_ratings(write("r.csv", "model,track,rating\nm,t,5\n")))


def test_nothing_in_common(write):
    scores = read_scores(write("s.csv", "estimate,sdr\no/m/t.wav,1\n"))
    with pytest.raises(TableError, match=r"scores are named o/m/t.wav; ratings m/u; give both"):
        match(scores, read_ratings(write("r.csv", "model,track,rating\nm,u,5\n")))
    with pytest.raises(TableError, match="matches a rating"):
        match(scores, read_ratings(write("r.csv", "id,rating\nother,5\n")))


def test_layers_are_metrics_of_their_own_only_where_values_differ(write):
    rows = [
        {
            "estimate": f"o/m/t{t}.wav",
            "layer": layer,
            "mert_mse": t + layer / 10,
            "sdr": t if layer == 0 else None,
            "si_sdr": t,
        }
        for t in (1, 2)
        for layer in (0, 1)
    ]
    ratings = read_ratings(write("r.csv", "model,track,rating\nm,t1,5\nm,t2,3\n"))
    joined = match(read_scores(write("s.json", json.dumps(rows))), ratings)
    assert list(map(str, joined.metrics)) == ["mert_mse@0", "mert_mse@1", "sdr", "si_sdr"]
    np.testing.assert_array_equal(joined.metrics[Metric("mert_mse", 1)], [1.1, 2.1])
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [1, 2])
    assert list(map(str, joined.select(["sdr", "mert_mse"]).metrics)) == ["sdr", "mert_mse@0", "mert_mse@1"]
    assert list(map(str, joined.select(["mert_mse@1"]).metrics)) == ["mert_mse@1"]
    with pytest.raises(InputError, match="unknown metric 'pesq'; this table has mert_mse@0"):
        joined.select(["pesq"])


def test_layers_of_different_models_are_metrics_of_their_own(write):
    """Two tables joined: no item has both layers. What has no layers stays whole."""
    rows = [
        {"estimate": f"o/{model}/t{t}.wav", "layer": layer, "mert_mse": t + layer, "sdr": t}
        for model, layer in (("a", 12), ("b", 24))
        for t in (1, 2)
    ]
    ratings = read_ratings(write("r.csv", "model,track,rating\na,t1,5\na,t2,3\nb,t1,4\nb,t2,2\n"))
    joined = match(read_scores(write("s.json", json.dumps(rows))), ratings)
    assert list(map(str, joined.metrics)) == ["mert_mse@12", "mert_mse@24", "sdr"]
    np.testing.assert_array_equal(joined.metrics[Metric("mert_mse", 12)], [13, 14, np.nan, np.nan])
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [1, 2, 1, 2])


def test_two_ratings_of_one_estimate(write):
    scores = read_scores(write("s.csv", "estimate,sdr\nm/t0.wav,1\nm/t1.wav,2\n"))
    with pytest.raises(TableError, match=r"the estimate m/t0\.wav fits 2 ratings \(.*t0.*, .*t0.*\); name items more"):
        match(scores, read_ratings(write("r.csv", "id,rating\nm/t0.wav,0\nt0,50\nt1,20\n")))


def test_a_stem_called_all_is_no_group_of_everything(write):
    scores = read_scores(write("s.csv", "model,track,stem,sdr\nm,a,all,1\nm,b,all,2\nm,a,bass,3\n"))
    rated = match(scores, read_ratings(write("r.csv", LONG + "m,a,all,1\nm,b,all,2\nm,a,bass,3\n")))
    found = groups(rated, by="stem", resamples=0)
    assert [(group.name, len(group.indices)) for group in found] == [("all", 2), ("bass", 1), ("all", 3)]


def test_a_group_of_one_track_has_no_resamples(write):
    path = write("both.csv", "model,track,stem,rating,sdr\nm,a,bass,1,1\nn,a,bass,2,2\nm,a,drums,3,3\nm,b,drums,4,4\n")
    found = groups(match(read_scores(path), read_ratings(path)), by="stem", resamples=5)
    assert [(group.name, group.tracks, group.weights is None) for group in found] == [
        ("bass", 1, True),
        ("drums", 2, False),
        ("all", 2, False),
    ]


def test_one_file_may_hold_single_ratings_and_scores(write):
    path = write("both.csv", "id,rater,rating,sdr\nx,p,1,5.5\nx,q,2,5.5\ny,p,3,6.5\n")
    joined = match(read_scores(path), read_ratings(path))
    np.testing.assert_array_equal(joined.ratings, [1.5, 3])
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [5.5, 6.5])


def test_names_that_join_are_one_name_to_groups_and_resamples(write):
    """Ratings may spell a track otherwise for each model, and a stem or a model otherwise now and then."""
    scores = "".join(f"out/{m}/fileid_{t}.wav,{t}\n" for m in ("a", "b") for t in (1, 2, 3))
    rated = "".join(
        f"{m.upper() if t == 1 else m},{m}_FileID_{t},{'Vocals' if t == 2 else 'vocals'},{t}\n"
        for m in ("a", "b")
        for t in (1, 2, 3)
    )
    joined = match(read_scores(write("s.csv", "estimate,sdr\n" + scores)), read_ratings(write("r.csv", LONG + rated)))
    assert {item.track for item in joined.items} == {"fileid_1", "fileid_2", "fileid_3"}
    assert {item.model for item in joined.items} == {"A", "B"}
    assert [(group.name, group.tracks) for group in groups(joined, by="stem", resamples=5)] == [
        ("vocals", 3),
        ("all", 3),
    ]


def test_what_ratings_say_names_an_item_and_scores_its_type(write):
    scores = read_scores(write("s.csv", "model,track,stem,model_type,sdr\nm,t,bass,new,1\n"))
    ratings = read_ratings(write("r.csv", "model,track,stem,model_type,rating\nM,T,Bass,old,5\n"))
    assert match(scores, ratings).items == (Item("M", "T", "Bass", model_type="new"),)


def test_items_with_an_id_alone_are_tracks_of_their_own(write):
    path = write("both.csv", "id,rating,sdr\na,1,1\nb,2,2\nc,3,3\n")
    (found,) = groups(match(read_scores(path), read_ratings(path)), resamples=4)
    assert (found.tracks, found.weights.shape) == (3, (4, 3))


@pytest.mark.parametrize("name", ["/x/M/a.wav", "M\\a.wav", "C:\\x\\M\\a.wav", "x/Ma\u0308r/a.wav"])
def test_an_id_that_is_the_estimates_path(write, name):
    scores = read_scores(write("s.csv", f"estimate,sdr\n{name},3\n"))
    for same in (name, name.replace("a\u0308", "ä"), name.removesuffix(".wav")):
        joined = match(scores, read_ratings(write("r.csv", f"id,rating\n{same},5\n")))
        np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [3])


@pytest.mark.parametrize("name", ["out//m/a.wav", "out/./m/a.wav", "./out/m/a.wav", "out/m/a.wav"])
def test_an_id_that_is_a_path_in_other_words(write, name):
    for scored, rated in ((name, "out/m/a.wav"), ("out/m/a.wav", name), (name, "m/a")):
        scores = read_scores(write("s.csv", f"estimate,sdr\n{scored},3\n"))
        assert len(match(scores, read_ratings(write("r.csv", f"id,rating\n{rated},5\n"))).items) == 1


def test_ratings_whose_means_are_equal_tie(write):
    rated = "".join(f"{name},{value}\n" for name, values in (("a", (1, 2, 3)), ("b", (2, 2, 2))) for value in values)
    tenths = rated.replace(",", ",0.")
    path = write("r.csv", "id,rating\n" + tenths)
    joined = match(read_scores(write("s.csv", "id,sdr\na,1\nb,2\n")), read_ratings(path))
    assert joined.ratings[0] == joined.ratings[1]


def test_names_with_a_comma_are_no_decimals(write):
    scores = read_scores(write("s.csv", 'id,sdr\n"1,5",1\n"2,5",2\n'))
    joined = match(scores, read_ratings(write("r.csv", "id;rating\n1,5;3,5\n2,5;4\n")))
    np.testing.assert_array_equal(joined.ratings, [3.5, 4])


def test_a_table_without_a_metric_says_why_its_columns_are_none(write):
    with pytest.raises(TableError, match=r"expected at least .*; the column sdr is no metric, as 1 of its 1 cells"):
        read_scores(write("s.csv", 'track,sdr\na,"1,5"\n'))


def test_a_track_that_is_given_is_the_track(write):
    scores = read_scores(write("s.csv", "estimate,track,sdr\nm/x_fileid_1.wav,songA,3\nm/x_fileid_2.wav,songB,2\n"))
    joined = match(scores, read_ratings(write("r.csv", "model,track,rating\nm,songA,3\nm,songB,1\n")))
    np.testing.assert_array_equal(joined.metrics[Metric("sdr")], [3, 2])


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        (("0,5", "0,25"), "2 of its 2 cells are no numbers, such as '0,5'"),
        (("n/a", "n/a"), "2 of its 2 cells are no numbers, such as 'n/a'"),
    ],
)
def test_a_metric_whose_cells_are_no_numbers_is_named(write, cells, reason):
    rows = [{"model": "m", "track": f"t{n}", "mert_mse": cell, "sdr": n} for n, cell in enumerate(cells)]
    scores = read_scores(write("s.json", json.dumps(rows)))
    assert scores.metrics == ("sdr",)
    assert list(map(str, scores.problems)) == [
        f"s.json: the column mert_mse is no metric, as {reason}; column left out"
    ]


def test_columns_of_numbers_in_part_are_named_and_of_text_not(write):
    table = "track,pesq,note,sdr\na,1,good,1\nb,NA,bad,2\nc,NA,so,3\nd,2,7,4\ne,,x,4\n"
    scores = read_scores(write("s.csv", table))
    assert scores.metrics == ("sdr",)
    assert [str(problem) for problem in scores.problems] == [
        "s.csv: the column pesq is no metric, as 2 of its 4 cells are no numbers, such as 'NA'; column left out"
    ]


def test_rows_without_a_layer_beside_rows_with_one(write):
    scores = read_scores(write("s.csv", "model,track,layer,mert_mse\nm,a,12,3\nm,b,12,4\nn,a,,5\nn,b,,6\n"))
    joined = match(scores, read_ratings(write("r.csv", "model,track,rating\nm,a,1\nm,b,2\nn,a,3\nn,b,4\n")))
    assert list(map(str, joined.metrics)) == ["mert_mse@12", "mert_mse"]
    np.testing.assert_array_equal(joined.metrics[Metric("mert_mse")], [np.nan, np.nan, 5, 6])


def test_an_items_track_is_that_of_its_scores_where_ratings_have_an_id_alone(write):
    scores = read_scores(write("s.csv", "id,model,track,stem,sdr\nx,a,t1,bass,1\ny,a,t2,bass,2\n"))
    ratings = read_ratings(write("r.csv", "id,rating\nx,3\ny,4\n"))
    items = match(scores, ratings).items
    assert [(item.id, item.model, item.track, item.stem) for item in items] == [
        ("x", "a", "t1", "bass"),
        ("y", "a", "t2", "bass"),
    ]


@pytest.mark.parametrize("name", ["m1/a.wav", "m1\\a.wav", "m1/a", "m1\\a"])
def test_ids_meet_paths_of_windows(write, name):
    scores = read_scores(write("s.csv", "estimate,sdr\nD:\\out\\m1\\a.wav,1\nD:\\out\\m2\\a.wav,2\n"))
    found = match(scores, read_ratings(write("r.csv", f"id,rating\n{name},3\n")))
    assert found.metrics[Metric("sdr")].tolist() == [1]


@pytest.mark.parametrize("column", ["frames", "samples", "seconds", "duration", "sample_rate", "channels", "group_id"])
def test_what_counts_and_measures_clips_is_no_metric(write, column):
    assert read_scores(write("s.csv", f"model,track,{column},sdr\na,t,5,1\na,u,6,2\n")).metrics == ("sdr",)


def test_a_track_that_is_named_goes_before_the_folders():
    item = identify({"estimate": "out/IRM1/A - B/vocals.wav", "track": "t"})
    assert (item.model, item.track, item.stem) == ("IRM1", "t", "vocals")
