"""Which narrations become clips, and over which interval."""

import ast
import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ego_ops.corpora import verbs
from ego_ops.corpora.candidates import Candidate, Narration, candidates
from ego_ops.corpora.sentence import parse
from ego_ops.corpora.skipped import Skipped

MANIPULATIONS = [
    ("#C C picks a cup", "pick", "cup"),
    ("#c c picks up the cup  from the table ", "pick up", "cup"),
    ("  C picks up the red mug.", "pick up", "red mug"),
    ("#C C picks the cup up", "pick up", "cup"),
    ("C puts the small bowl on the counter with her left hand", "put", "small bowl"),
    ("#C C puts down the cup", "put down", "cup"),
    ("#C C puts the cup down on the table", "put down", "cup"),
    ("#C C picks the spoon in her left hand", "pick", "spoon"),
    ("#C C turns the knob", "turn", "knob"),
    ("#C C turns on the tap", "turn on", "tap"),
    ("#C C moves the chair", "move", "chair"),
    ("#C C is cutting the carrot with a knife", "cut", "carrot"),
    ("#C C cuts the piece of cloth with scissors", "cut", "cloth"),
    ("#C C removes the lid of the pot", "remove", "lid"),
    ("#C C slices 2 tomatoes", "slice", "tomatoes"),
    ("The person picks up a red mug.", "pick up", "red mug"),
    ("she opened the fridge door", "open", "fridge door"),
    ("pick up the milk bottle using the right hand", "pick up", "milk bottle"),
    ("Picking up the cup", "pick up", "cup"),
    ("The left hand picks up the screwdriver", "pick up", "screwdriver"),
    ("#C C's left hand picks the tile", "pick", "tile"),
    ("#C C starts to wash the plate", "wash", "plate"),
    ("#C C continues washing the plate", "wash", "plate"),
    ("#C C keeps the cup on the table", "keep", "cup"),
    ("#C C keeps stirring the soup", "stir", "soup"),
    ("#C C uses a knife to cut the carrot", "cut", "carrot"),
    ("#C C turns around and opens the drawer", "open", "drawer"),
    ("#C C then slowly pours water into the kettle", "pour", "water"),
    ("#C C ties the shoe lace", "tie", "shoe lace"),
    ("#C C tying the rope", "tie", "rope"),
    ("#C C plays the guitar", "play", "guitar"),
    ("#C C drops chicken leg in the pan", "drop", "chicken leg"),
    ("#C C wears gloves on his hands", "wear", "gloves"),
    ("#C C hands over the cup to the man", "hand over", "cup"),
    ("hand the cup over", "hand", "cup"),
    ("#C C scoops flour, then pours it in the bowl", "scoop", "flour"),
    ("#C C returns the cup to the shelf", "return", "cup"),
    ("#C C saws the wood", "saw", "wood"),
    ("#C C opens the cabinet's door", "open", "cabinet door"),
    ("#C C took the man's hat", "take", "hat"),
    ("#C C washes and rinses the plate", "rinse", "plate"),
    ("#C C holds the hand mixer", "hold", "hand mixer"),
    ("C tightens the bolt with the ratchet wrench.", "tighten", "bolt"),
    ("#C C passes the plate to the woman", "pass", "plate"),
    ("#C C squeezes out the cloth", "squeeze out", "cloth"),
    ("C tears the package open", "tear", "package"),
    ("#C C holds onto the ladder", "hold onto", "ladder"),
    ("C is standing by the table and picks the pen", "pick", "pen"),
    ("#C C puts on the gloves", "put on", "gloves"),
    ("take plates from cupboard", "take", "plates"),
]

LEFT_OUT = [
    ("#O a man X picks a cup", "other_person"),
    ("#o The lady opens the door", "other_person"),
    ("A man picks a cup", "other_person"),
    ("#C the woman picks a cup", "other_person"),
    ("another person picks up a cup", "other_person"),
    ("#unsure", "unsure"),
    ("#C C picks #unsure", "unsure"),
    ("#C C touches the #Unsure on the table", "unsure"),
    ("#Summary C was in the kitchen and cooked a meal", "summary"),
    ("#C C walks to the kitchen", "moves_about"),
    ("#C C moves around the house", "moves_about"),
    ("#C C turns around", "moves_about"),
    ("#C C turns to the left", "moves_about"),
    ("#C C returns to the table", "moves_about"),
    ("#C C stands up", "moves_about"),
    ("#C C climbs down the stairs", "moves_about"),
    ("#C C is walking in the street with a cup", "moves_about"),
    ("#C C walks while holding a cup", "moves_about"),
    ("#C C stops cutting the carrot", "no_manipulation"),
    ("#C C looks around the room", "looks"),
    ("#C C stares at the phone", "looks"),
    ("#C C reads the recipe book", "looks"),
    ("#C C talks to the man X", "talks"),
    ("#C C converses with a woman Y", "talks"),
    ("#C C dialogues with a lady", "talks"),
    ("#C C transfers the cup from his right hand to the left hand", "hand_to_hand"),
    ("C passes the knife to his left hand", "hand_to_hand"),
    ("#C C puts the spoon in her left hand", "hand_to_hand"),
    ("#C C interchanges the screwdriver in her hands", "hand_to_hand"),
    ("#C C switches the knife between his hands", "hand_to_hand"),
    ("#C C touches his face", "own_body"),
    ("#C C moves his left hand", "own_body"),
    ("#C C washes his hands", "own_body"),
    ("#C C wipes both hands with a towel", "own_body"),
    ("#C C scratches his head", "own_body"),
    ("#C C raises her right hand", "own_body"),
    ("#C C adjusts the camera on his head", "own_body"),
    ("#C C stirs", "no_object"),
    ("#C C picks it", "no_object"),
    ("#C C puts on the table", "no_object"),
    ("#C C touches the cup", "no_manipulation"),
    ("#C C types on the keyboard", "no_manipulation"),
    ("#C C frobnicates the cup", "no_manipulation"),
    ("#C C holds the baby", "no_manipulation"),
    ("#C C pats the dog", "no_manipulation"),
    ("a red cup", "no_manipulation"),
    ("", "no_manipulation"),
    ("#C", "no_manipulation"),
]


@pytest.mark.parametrize(("text", "verb", "thing"), MANIPULATIONS)
def test_manipulations_are_understood(text, verb, thing):
    said = parse(text)
    assert (said.reason, said.verb, said.object) == ("", verb, thing)
    assert "#" not in said.text
    assert said.text == " ".join(said.text.split())


@pytest.mark.parametrize(("text", "reason"), LEFT_OUT)
def test_the_rest_is_left_out_for_a_reason(text, reason):
    assert parse(text).reason == reason


def test_the_verbs_of_a_real_corpus_are_known():
    data = Path(__file__).resolve().parents[2] / "shared" / "data" / "hdepic"
    path = data / "narrations-and-action-segments" / "HD_EPIC_verb_classes.csv"
    if not path.is_file():
        pytest.skip(f"needs {path.name} of HD-EPIC")
    with path.open() as file:
        said = [v for row in csv.DictReader(file) for v in ast.literal_eval(row["instances"])]
    known = [v for v in said if v.replace("-", " ").split()[0] in verbs.BASE]
    assert len(said) > 2000
    assert len(known) > 0.85 * len(said)  # the rest: rare verbs, nouns and misspellings


def found(narrations, duration=100.0):
    out = list(candidates(narrations, duration, "video"))
    return [c for c in out if isinstance(c, Candidate)], [s for s in out if isinstance(s, Skipped)]


def spans(narrations, duration=100.0):
    return [(c.t_start, c.t_end) for c in found(narrations, duration)[0]]


def test_reasons_are_counted_with_an_example():
    texts = [text for text, _ in LEFT_OUT] + ["#C C picks a cup"]
    kept, skipped = found([Narration(str(i), t, 1.0 + 3 * i) for i, t in enumerate(texts)], 1e3)
    assert [c.narration for c in kept] == ["C picks a cup"]
    assert {s.reason: s.count for s in skipped} == Counter(reason for _, reason in LEFT_OUT)
    other = next(s for s in skipped if s.reason == "other_person")
    assert (other.where, other.detail) == ("video", "1.00 s: #O a man X picks a cup")


def test_what_the_corpus_rules_out_stays_out():
    kept, skipped = found([Narration("a", "C picks a cup", 5.0, drop="not_visible")])
    assert not kept
    assert [(s.reason, s.count) for s in skipped] == [("not_visible", 1)]


def test_two_seconds_around_an_instant_up_to_the_neighbours():
    assert spans([Narration("a", "C picks a cup", 10.0)]) == [(8.0, 12.0)]
    # Walking away ends it, somebody else's doing does not, nor do words of a summary.
    others = [
        Narration("b", "C walks to the door", 11.0),
        Narration("c", "#O man X sits", 9.5),
        Narration("d", "#Summary C cooks", 10.2),
    ]
    assert spans([Narration("a", "C picks a cup", 10.0), *others]) == [(8.0, 11.0)]


def test_never_shorter_than_one_and_a_half_seconds():
    close = [
        Narration("a", "C looks around", 9.9),
        Narration("b", "C picks a cup", 10.0),
        Narration("c", "C talks", 10.3),
    ]
    assert spans(close) == [(9.25, 10.75)]
    assert spans([Narration("b", "C picks a cup", 0.0), Narration("c", "C talks", 0.2)]) == [
        (0.0, 1.5)
    ]
    assert spans([Narration("b", "C picks a cup", 9.9), Narration("c", "C talks", 9.8)], 10.0) == [
        pytest.approx((8.5, 10.0))
    ]
    kept, skipped = found([Narration("b", "C picks a cup", 0.5)], 1.0)
    assert not kept
    assert [s.reason for s in skipped] == ["too_short"]


def test_an_annotated_interval_is_kept_within_the_video():
    kept, _ = found(
        [
            Narration("a", "C picks a cup", 10.0, (9.5, 13.25)),
            Narration("b", "C walks", 11.0),
            Narration("c", "C opens a box", 98.0, (97.0, 101.0)),
        ]
    )
    assert [(c.t_start, c.t_end, c.interval) for c in kept] == [
        (9.5, 13.25, "annotated"),
        (97.0, 100.0, "annotated"),
    ]


@pytest.mark.parametrize(
    ("t", "span"),
    [
        (5.0, (6.0, 4.0)),
        (5.0, (4.0, 4.0)),
        (5.0, (-1.0, 4.0)),
        (5.0, (float("nan"), 4.0)),
        (5.0, (4.0, float("inf"))),
        (5.0, (4.0, 70.0)),
        (120.0, (110.0, 130.0)),
        (float("nan"), (4.0, 6.0)),
        (float("nan"), None),
        (-1.0, None),
        (101.0, None),
    ],
)
def test_an_interval_that_cannot_be(t, span):
    kept, skipped = found([Narration("a", "C picks a cup", t, span)])
    assert not kept
    assert [s.reason for s in skipped] == ["bad_interval"]


def test_near_duplicates_are_merged():
    kept, skipped = found(
        [
            Narration("first", "#C C picks up the blue cup", 10.0),
            Narration("second", "#C C picks a cup", 10.8),
            Narration("third", "#C C picks a cup", 11.9),
            Narration("other", "#C C opens a box", 10.5),
        ]
    )
    assert [c.uid for c in kept] == ["first", "other", "third"]
    assert [(s.reason, s.count) for s in skipped] == [("duplicate", 1)]


def test_of_two_that_say_the_same_the_one_with_an_interval_stays():
    kept, _ = found(
        [
            Narration("early", "C picks a cup", 10.0),
            Narration("spanned", "C picks the cup", 10.5, (9.0, 12.0)),
        ]
    )
    assert [c.uid for c in kept] == ["spanned"]


def test_the_same_action_again_is_no_duplicate():
    again = [Narration("a", "C cuts a carrot", 10.0), Narration("b", "C cuts a carrot", 11.5)]
    assert len(found(again)[0]) == 2
    apart = [
        Narration("a", "C cuts a carrot", 10.0, (9.5, 10.2)),
        Narration("b", "C cuts a carrot", 10.6, (10.3, 11.2)),
    ]
    assert len(found(apart)[0]) == 2


TEXTS = st.sampled_from([t for t, *_ in MANIPULATIONS[:12]] + [t for t, _ in LEFT_OUT[::4]])
TIMES = st.one_of(st.floats(-3, 70), st.sampled_from([0.0, 30.0, 60.0, float("nan"), 1e9]))
NARRATIONS = st.lists(
    st.tuples(TEXTS, TIMES, st.one_of(st.none(), st.tuples(TIMES, TIMES))), max_size=25
).map(lambda rows: [Narration(f"u{i}", *row) for i, row in enumerate(rows)])


@settings(max_examples=300, deadline=None)
@given(NARRATIONS, st.sampled_from([0.0, 1.0, 30.0, 60.0, float("inf")]), st.randoms())
def test_properties(narrations, duration, random):
    out = list(candidates(narrations, duration, "v"))
    kept = [c for c in out if isinstance(c, Candidate)]
    dropped = [s for s in out if isinstance(s, Skipped)]
    assert len(kept) + sum(s.count for s in dropped) == len(narrations)
    assert len({c.uid for c in kept}) == len(kept)
    assert len({s.reason for s in dropped}) == len(dropped)
    assert [c.t_start for c in kept] == sorted(c.t_start for c in kept)
    by_uid = {n.uid: n for n in narrations}
    for c in kept:
        assert 0 <= c.t_start < c.t_end <= duration
        said = by_uid[c.uid]
        if said.span:
            assert (c.t_start, c.t_end) == (said.span[0], min(said.span[1], duration))
        else:
            assert 1.5 - 1e-6 <= c.t_end - c.t_start <= 4 + 1e-6
            assert c.t_start <= said.t <= c.t_end
        assert c.verb
        assert c.object
    shuffled = list(narrations)
    random.shuffle(shuffled)
    assert list(candidates(shuffled, duration, "v")) == out
