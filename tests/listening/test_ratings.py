from __future__ import annotations

import pytest

from mertric.errors import InputError, TableError
from mertric.listening.items import Item
from mertric.listening.ratings import read_ratings

BAKEOFF = """session_uuid,track,stem type,IRM1,Open-UMix,lpf_anchor,reference,rating_time,rating_std,\
violation_time,violation_total
s1,A - B,vocals,80,40,10,95,60,30,0,0
s2,A - B,vocals,90,60,10,95,60,30,0,3
s3,A - B,vocals,10,99,10,95,60,30,1,4
s1,A - B,drums,70,,10,95,60,30,0,0
s2,A - B,drums,seventy,30,10,95,60,30,0,0
s3,A - B,drums,170,30,10,95,60,30,0,0
s4,,drums,70,30,10,95,60,30,0,0
s4,A - B,drums,70,30,10,95,60,30,0,x
s4,A - B,drums
"""

MUSHRA = """session_test_id,age,session_uuid,trial_id,rating_stimulus,rating_score,rating_time,rating_comment
t,30,u1,song1_vocals,modelA,80,100,"good, but"
t,30,u1,song1_vocals,reference,100,100,
t,30,u1,song1_vocals,anchor35,5,100,
t,30,u2,song1_vocals,modelA,60,100,
t,30,u2,Training_1,modelA,60,100,
t,30,u2,song2,modelA,,100,
t,30,u2,song2,modelA,101,100,
"""


def by_item(ratings):
    return {str(rating.item): rating for rating in ratings.items}


def test_bakeoff_violations_averages_and_malformed_rows(write):
    ratings = read_ratings(write("b.csv", BAKEOFF))
    found = by_item(ratings)
    assert ratings.format == "bakeoff"
    assert ratings.raters_known
    assert {name: rating.mean for name, rating in found.items()} == {
        "IRM1/A - B/vocals": 85.0,
        "Open-UMix/A - B/vocals": 50.0,
        "IRM1/A - B/drums": 70.0,
    }
    assert found["IRM1/A - B/vocals"].by_rater == {"s1": 80.0, "s2": 90.0}
    assert list(map(str, ratings.problems)) == [
        "b.csv, line 10: 3 fields, expected 11; row skipped",
        "b.csv, line 6: rating 'seventy' is not a number; row skipped",
        "b.csv, line 7: rating 170 is not a finite number from 0 to 100; row skipped",
        "b.csv, line 8: session_uuid, track or stem type is empty; row skipped",
        "b.csv, line 9: rating 'x' is not a number; row skipped",
    ]
    assert ratings.notes == (
        "1 of 8 rows have violation_total above 3 and were dropped",
        "1 ratings are empty",
        "hidden reference and lpf_anchor left out",
    )


def test_bakeoff_threshold_and_median(write):
    path = write("b.csv", BAKEOFF)
    assert by_item(read_ratings(path, max_violations=2))["IRM1/A - B/vocals"].mean == 80
    everyone = read_ratings(path, max_violations=4, average="median")
    assert by_item(everyone)["IRM1/A - B/vocals"].mean == 80
    assert by_item(everyone)["Open-UMix/A - B/vocals"].mean == 60


def test_bakeoff_without_models_and_with_bad_violation_counts(write):
    with pytest.raises(TableError, match="has no model column"):
        read_ratings(write("b.csv", "session_uuid,track,stem type,violation_total\ns,t,bass,0\n"))
    rows = "session_uuid,track,stem type,M,violation_total\ns,t,bass,5,0.5\ns,t,bass,,0\n"
    with pytest.raises(TableError, match=r"line 2: violation_total is '0\.5', expected a whole number") as caught:
        read_ratings(write("b.csv", rows))
    assert "line 3: no model has a rating" in str(caught.value)


def test_webmushra_leaves_out_references_anchors_and_training(write):
    ratings = read_ratings(write("mushra.csv", MUSHRA))
    (rating,) = ratings.items
    assert rating.item == Item(model="modelA", track="song1", stem="vocals")
    assert rating.mean == 70
    assert rating.by_rater == {"u1": 80.0, "u2": 60.0}
    assert ratings.notes == (
        "2 ratings of hidden references and anchors left out",
        "1 ratings of training trials left out",
    )
    assert [str(problem).split(": ", 1)[1] for problem in ratings.problems] == [
        "rating_score is empty; row skipped",
        "rating 101 is not a finite number from 0 to 100; row skipped",
    ]


def test_webmushra_raters_without_uuid_are_told_by_their_answers(write):
    header = "session_test_id,email,trial_id,stimuli_rating,stimuli,rating_time\n"
    rows = "t,a@x,song1,4,modelA,3\nt,b@x,song1,2,modelA,3\n"
    ratings = read_ratings(write("lms.csv", header + rows))
    assert ratings.format == "webmushra"
    assert ratings.raters_known
    assert dict(ratings.items[0].by_rater) == {"a@x": 4.0, "b@x": 2.0}
    anonymous = read_ratings(
        write("lss.csv", (header + rows).replace(",email", "").replace(",a@x", "").replace(",b@x", ""))
    )
    assert not anonymous.raters_known
    assert dict(anonymous.items[0].by_rater) == {"#1": 4.0, "#2": 2.0}
    signed = read_ratings(write("lss.csv", header + rows.replace(",4,", ",-250,")))
    assert dict(signed.items[0].by_rater) == {"a@x": -250.0, "b@x": 2.0}


def test_long_by_id_and_by_model_track_stem(write):
    ratings = read_ratings(write("r.csv", "id,rating\nx.wav,3\nx.wav,4\ny.wav,?\ny.wav,5\n,5\ny.wav,\n"))
    assert {name: rating.mean for name, rating in by_item(ratings).items()} == {"x.wav": 3.5, "y.wav": 5.0}
    assert not ratings.raters_known
    assert [str(problem) for problem in ratings.problems] == [
        "r.csv, line 4: rating '?' is not a number; row skipped",
        "r.csv, line 6: no id, and model or track is empty; row skipped",
        "r.csv, line 7: rating is empty; row skipped",
    ]
    named = read_ratings(write("r.csv", "model,track,stem,rater,rating\nm,t,bass,p,1\nm,t,bass,q,2\nm,t,bass,,2\n"))
    assert named.items[0].item == Item(model="m", track="t", stem="bass")
    assert named.items[0].by_rater == {"p": 1.0, "q": 2.0}
    assert str(named.problems[0]) == "r.csv, line 4: rater is empty; row skipped"


def test_a_rater_who_rates_an_item_twice_counts_once(write):
    (rating,) = read_ratings(write("r.csv", "id,rater,rating\nx,p,1\nx,p,3\nx,q,6\n")).items
    assert (rating.mean, rating.by_rater) == (4.0, {"p": 2.0, "q": 6.0})


def test_wide_ratings_and_a_mean_that_is_not_theirs(write):
    header = "file_id,model_name,model_type,subject_rating_0,subject_rating_1,rating_0,rating_1,DMOS\n"
    ratings = read_ratings(write("g.csv", header + "fileid_1,m,generative,a,b,2,4,3\nfileid_2,m,generative,a,b,2,,4\n"))
    assert ratings.format == "gensvs"
    first, second = ratings.items
    assert first.item == Item(model="m", track="fileid_1", stem="vocals", model_type="generative")
    assert (first.mean, first.by_rater) == (3.0, {"a": 2.0, "b": 4.0})
    assert second.mean == 2.0
    assert str(ratings.problems[0]).startswith("g.csv, line 3: DMOS 4 is not the mean 2 of its ratings")
    plain = read_ratings(write("w.csv", "id,rating_0,rating_1\nx,1,2\ny,,\n"))
    assert (plain.format, plain.items[0].mean) == ("wide", 1.5)
    assert str(plain.problems[0]) == "w.csv, line 3: no rating; row skipped"


def test_means_alone_have_no_raters(write):
    ratings = read_ratings(write("g.csv", "file_id,model_name,DMOS\nfileid_1,m,3.5\n"))
    assert (ratings.items[0].mean, ratings.items[0].by_rater, ratings.raters_known) == (3.5, {}, False)


def test_unknown_formats_list_what_was_found_and_expected(write):
    with pytest.raises(TableError, match="found the columns name, value; expected one of") as caught:
        read_ratings(write("r.csv", "name,value\na,1\n"))
    for kind in ("gensvs", "bakeoff", "webmushra", "wide", "long"):
        assert f"{kind}:" in str(caught.value)


def test_no_usable_rating_and_unknown_average(write):
    with pytest.raises(TableError, match=r"\(long format\) holds no usable rating: r.csv, line 2: rating 'x'"):
        read_ratings(write("r.csv", "id,rating\na,x\n"))
    with pytest.raises(InputError, match="average='mode'"):
        read_ratings(write("r.csv", "id,rating\na,1\n"), average="mode")


def test_gensvs_data(gensvs):
    ratings = read_ratings(gensvs)
    assert (ratings.format, len(ratings.items), ratings.problems) == ("gensvs", 250, ())
    assert {len(rating.by_rater) for rating in ratings.items} == {12}


def test_ratings_saved_again_by_pandas(write):
    """Its index is no model of the Bake-Off's and no part of a webMUSHRA participant's answers."""
    head = ",session_uuid,violation_total,track,stem type,m1,m2\n"
    rows = "".join(f"{index},s{index},0,t,bass,50,{index % 100}\n" for index in range(150))
    ratings = read_ratings(write("b.csv", head + rows))
    assert {rating.item.model for rating in ratings.items} == {"m1", "m2"}
    assert not ratings.problems
    rows = "".join(f"{index},bob,t{index},m,50\n" for index in range(3))
    ratings = read_ratings(write("w.csv", "Unnamed: 0,name,trial_id,rating_stimulus,rating_score\n" + rows))
    assert {rater for rating in ratings.items for rater in rating.by_rater} == {"bob"}


def test_ratings_that_sums_cannot_hold(write):
    ratings = read_ratings(write("r.csv", "id,rating\na,1e308\na,1e308\nb,3\n"))
    assert [rating.mean for rating in ratings.items] == [3]
    assert "rating 1e+308 is not a finite number" in str(ratings.problems[0])


def test_means_of_one_item_are_averaged(write):
    (rating,) = read_ratings(write("g.csv", "file_id,model_name,DMOS\nf,m,5\nf,m,1\nf,m,2\n")).items
    assert rating.mean == pytest.approx(8 / 3)


def test_a_raters_own_ratings_are_averaged_by_their_mean(write):
    (rating,) = read_ratings(write("r.csv", "id,rater,rating\nx,p,1\nx,p,1\nx,p,4\n"), average="median").items
    assert rating.by_rater == {"p": 2.0}


def test_any_anchor_is_hidden(write):
    table = MUSHRA.replace("anchor35", "lpf_Anchor_7")
    assert "2 ratings of hidden references and anchors left out" in read_ratings(write("m.csv", table)).notes


def test_participants_of_equal_answers_are_several(write):
    rows = "".join(f"t,{age},song,modelA,{score},1,\n" for age, score in ((30, 0), (30, 100), (40, 100)))
    header = "session_test_id,age,trial_id,rating_stimulus,rating_score,rating_time,rating_comment\n"
    ratings = read_ratings(write("mushra.csv", header + rows))
    assert ratings.items[0].mean == pytest.approx(200 / 3)
    assert ratings.items[0].by_rater == {"30": 0.0, "30 (2)": 100.0, "40": 100.0}
    assert ratings.notes == ("1 stimuli rated again under the same answers: taken as other participants' ratings",)
    again = read_ratings(write("mushra.csv", MUSHRA + "t,30,u1,song1_vocals,modelA,100,100,\n"))
    assert again.items[0].by_rater == {"u1": 90.0, "u2": 60.0}
    assert not any("again" in note for note in again.notes)


def test_an_id_may_come_with_a_model_and_a_stem(write):
    ratings = read_ratings(write("r.csv", "id,model,stem,model_type,rating\nx1,a,bass,new,3\nx2,b,drums,old,4\n"))
    found = [(rating.item.id, rating.item.model, rating.item.stem, rating.item.model_type) for rating in ratings.items]
    assert found == [("x1", "a", "bass", "new"), ("x2", "b", "drums", "old")]


@pytest.mark.parametrize(("given", "reported"), [(3.0009, False), (3.01, True), (2.99, True)])
def test_a_mean_that_differs_by_a_hundredth_is_reported(write, given, reported):
    ratings = read_ratings(write("r.csv", f"file_id,model_name,DMOS,rating_0,rating_1\nfileid_1,a,{given},2,4\n"))
    assert bool(ratings.problems) == reported
    assert ratings.items[0].mean == 3


def test_a_trials_stem_is_spelled_small(write):
    ratings = read_ratings(write("r.csv", "session_uuid,trial_id,rating_stimulus,rating_score\nu,song/Vocals,a,50\n"))
    assert ratings.items[0].item == Item(model="a", track="song", stem="vocals")


def test_a_webmushra_export_without_anything_of_its_participants(write):
    rows = "\n".join(f"test,song,a,{score}" for score in (40, 50, 60))
    header = "session_test_id,trial_id,rating_stimulus,rating_score"
    ratings = read_ratings(write("r.csv", f"{header}\n{rows}\n"))
    assert (ratings.items[0].mean, len(ratings.items[0].by_rater)) == (50, 3)
    assert not ratings.raters_known
    assert ratings.notes == ()


@pytest.mark.parametrize("column", ["rater", "subject", "listener", "session_uuid"])
def test_what_a_column_of_raters_may_be_called(write, column):
    ratings = read_ratings(write("r.csv", f"id,{column},rating\nx,ann,1\nx,ann,3\nx,bob,5\n"))
    assert ratings.raters_known
    assert dict(ratings.items[0].by_rater) == {"ann": 2, "bob": 5}


def test_a_file_id_alone_does_not_make_it_gensvs(write):
    ratings = read_ratings(write("r.csv", "file_id,model,rating_0\nfileid_1,a,3\n"))
    assert (ratings.format, ratings.items[0].item.stem) == ("wide", "")
