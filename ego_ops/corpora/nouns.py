"""Words of narrations that are no verbs: who acts, what is no thing, where a phrase ends."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


WEARER = words("""
    c person wearer cameraperson participant subject user individual actor operator i he she they
    we you somebody someone hand hands
    """)
PEOPLE = words("""
    o man woman men women lady ladies guy boy boys girl girls child children kid kids baby
    toddler people friend friends colleague partner group crowd customer worker teacher
    """)
ANIMALS = words("dog dogs cat cats puppy horse cow goat bird")

BODY = words("""
    camera hand hands arm arms finger fingers thumb thumbs palm palms fist wrist elbow shoulder
    shoulders head face hair nose eye eyes ear ears mouth lip lips cheek cheeks chin beard neck
    forehead eyebrow tongue tooth teeth leg legs knee knees foot feet toe toes thigh thighs lap
    chest stomach belly waist hip hips back body skin nail nails fingernail fingernails gaze posture
    """)
"""Parts of the wearer, which are no thing to track; so is the camera that films."""

OF_BODY = words("left right own other both index middle ring little upper lower entire head")
"""Words before a part of the body that leave it one: `left hand`, but not `chicken leg`."""

DETERMINERS = words("""
    the a an some his her their its my your this that these those another any each every all both
    one two three four five six seven eight nine ten several few many more another other couple
    c's own x y z
    """)
MEASURES = words("""
    piece pieces part parts bit bits slice slices pair pairs set lot lots handful bunch type
    kind some couple number amount head heads strip strips chunk chunks sheet sheets portion
    rest remaining half side sides
    """)
"""Words whose `of` names the thing: `a piece of cloth` is cloth, `a cup of tea` is a cup."""

UNNAMED = words("""
    it them something anything thing things itself himself herself themselves him her
    """)

ENDS_PHRASE = words("""
    on in into onto with from to at by for of off over under inside around round about against
    through between behind beside besides near towards toward using along across upon out up down
    away back aside together apart outside above below beneath underneath within without next
    and or then while as before after so because but that which who whom where when until
    forward forwards backward backwards sideways here there again is are was were
    via per than like during
    """)
"""Words at which the phrase of the object ends."""

DIRECTIONS = words("left right around back forward sideways upright straight")

WORN = words("""
    glove gloves shoe shoes sock socks boot boots sandal sandals slipper slippers hat cap helmet
    jacket coat shirt sweater apron mask glasses goggles trousers pants jeans dress clothes belt
    scarf ring watch necklace backpack vest uniform lamp light lights
    """)
"""What somebody who `puts on` a thing wears or switches on; anything else is where a thing goes."""

RESULTS = words("open closed shut clean dry flat tight loose straight upright left right")
"""What a thing becomes, behind its name: `tears the package open`."""
