"""Verbs of narrations, by what the wearer does, and their forms.

Ego4D's annotators use some 1,700 verbs, but a few hundred make up nearly all narrations. A verb
that is in none of these lists counts as no manipulation: a clip less costs less than a clip of
somebody dancing.
"""

from __future__ import annotations

from ego_ops.corpora.nouns import words

MANIPULATE = words("""
    add adjust agitate align angle apply arrange assemble attach bake bang bash beat bend bin bind
    blend boil bounce brace break bring brush build bunch bundle button cap carry carve catch
    change chip chisel chop clamp clean cleanse clear clip close coat coil collect comb combine
    compact compress connect consume cook cover crack crease crimp crochet crop crumble crumple
    crush cut dab dampen deal decant decorate detach detangle dial dice dig dip disassemble discard
    disconnect disentangle dish dislodge dismantle dispense display dispose distribute divide drag
    drain drape draw dredge drill drink drip drizzle drop dry dump dunk dust eat embroider empty
    enclose erase exchange extend extract fasten feed fetch file fill filter fish fit fix flap
    flatten flick fling flip fluff flush fold force fry garnish gather get give glue grab grasp
    grate grease grind grip guide halve hammer hand handle hang harvest haul heat hit hold hook
    hoover ice immerse insert install interchange invert iron jiggle join juice julienne keep kick
    knead knit knock knot ladle lather lay layer level lever lift light line load lock loose loosen
    lower lubricate manipulate manoeuvre marinate mark mash measure melt mend mince mix mold mop
    mould mount move mow nail nudge offer offload oil open operate overturn pack package paint pass
    paste pat peel pepper pick pickup pierce pile pin pinch pivot place plait plane plant plaster
    plate play pluck plug plunge poke polish pop position pour press prod prop prune pry pull pump
    punch push put raise rake ram readjust rearrange reassemble reattach recycle refill refold
    regulate release relocate remove reopen reorganize reorientate repair replace reposition reseal
    reshape rest restack retract retrieve return reverse rewrap rinse rip roast roll rotate rub
    salt sand sanitize saw scatter scoop scour scramble scrape screw scrub scrunch seal season
    secure separate serve set sew shake shape sharpen shave sheathe shift shove shovel shred
    shuffle shut sieve sift sip skim slam slap slash slice slide slip slit slot smash smear smooth
    smoothen snap snip soak soap solder sort spill spin splash split sponge spoon spray spread
    sprinkle squash squeeze squidge squirt squish stab stabilize stack staple steady steam steer
    stick stir stitch store straighten strain stretch strike string strip strum stuff submerge suck
    suspend swap swat sweep swill swing swirl switch take tamp tape tear temper thread throw tidy
    tie tighten tilt tip toast top toss tow transfer trash trim trowel tuck tug turn twist unbutton
    uncap unclasp unclip uncoil uncork uncover uncurl undo unfasten unfold unfurl unhang unhook
    unlace unload unlock unmount unpack unpeel unpin unplug unravel unroll unscrew unseal unsheathe
    unstack unstick untangle untie untwist unwind unwrap unzip upturn use vacuum warm wash water
    wax wear weave wedge weed weigh weld wet whip whisk wield wiggle wind wipe wrap wring write
    yank zest zip
    """)
"""The wearer moves or changes a thing."""

MOVES_ABOUT = words("""
    walk go step stand sit kneel squat crouch climb descend ascend run jog jump hop enter exit
    leave come approach arrive cross follow head crawl stroll wander travel proceed dance swim
    ride drive cycle pace stoop lie rise wake strut march hike skip stagger balance
    """)
"""The wearer moves in the room, whatever thing the sentence names."""

LOOKS = words("""
    look stare gaze watch observe see glance view search read check inspect examine monitor scan
    peep peek survey study spot notice find focus face compare count think consider choose
    """)
"""The wearer looks, reads or thinks."""

TALKS = words("""
    talk speak converse say tell ask laugh chat interact discuss sing call greet whisper smile
    answer dialogue communicate respond explain shout reply argue joke listen hum whistle
    gossip instruct thank apologize conversate
    """)

GESTURES = words("""
    scratch wave point clap nod gesture gesticulate yawn sneeze cough blink wink shrug breathe
    sigh bow salute sniff smell flex relax itch kiss hug pet caress stroke massage
    """)
"""The wearer moves a part of the body, and no thing."""

OTHERWISE = words("""
    touch feel tap type scroll swipe click browse navigate help assist support lean sleep
    stay work perform practice exercise demonstrate show attempt finish complete do make
    prepare have be become need want smoke chew swallow taste bite lick reach hover
    record film photograph park stop pause wait let fall blow
    rummage fumble fiddle hesitate end test
    """)
"""Neither: nothing is moved, or what is moved cannot be told."""

DIRECTED = words("move turn shift return lower bend swing roll slide rotate raise bring")
"""Verbs of manipulation with an object, of moving about without one."""

IRREGULAR = """
    beat beaten, bend bent, bind bound, break broke broken, bring brought, build built,
    catch caught, come came, deal dealt, dig dug, do did done, draw drew drawn,
    drink drank drunk, drive drove driven, eat ate eaten, feel felt, find found, fling flung,
    get got gotten, give gave given, go went gone, grind ground, hang hung, have has had,
    be is are was were been am, hold held, keep kept, kneel knelt, lay laid, leave left,
    lie lying lain, light lit, make made, ride rode ridden, rise rose risen, run ran, say said,
    see seen, sew sewn, shake shook shaken, sing sang sung, sit sat, sleep slept, slide slid,
    speak spoke spoken, spin spun, stand stood, stick stuck, strike struck, sweep swept,
    swim swam, swing swung, take took taken, tear tore torn, tell told, think thought,
    throw threw thrown, tie tying, undo undid undone, untie untying,
    unwind unwound, wake woke, wear wore worn, weave wove woven, wind wound, wring wrung,
    write wrote written
"""
"""Base form and irregular forms of verbs."""

PARTICLES = {
    "up": """pick lift hold hang roll fold wrap tie clean fill open cut clear pull push pile stack
        raise gather scoop break tear mix set bundle pack put take bring wind zip button sweep
        mop wipe turn prop screw tighten straighten""",
    "down": """put place set lay drop hold press push pull lower throw take turn cut break fold
        pin""",
    "out": """take pull pour bring spread squeeze roll scoop cut dig throw put lay remove get
        wring drag stretch straighten scrape push empty shake""",
    "off": """turn switch take cut wipe pull peel shake brush wash rinse scrape put clean break
        tear rub push dust lift get remove trim chop snap rip shut slice""",
    "on": "turn switch put",
    "in": "plug screw push put fold",
    "away": "put throw take push pull move clear pack",
    "back": "put place return move pull fold take push",
    "apart": "take pull break tear",
    "together": "put tie press join fold",
    "over": "turn flip hand",
    "around": "turn",
    "with": "play",
    "onto": "hold",
}
"""Particles that belong to the verb before them, and which verbs those are."""

LIGHT = words("start begin continue proceed try attempt keep resume")
"""Verbs that only introduce the next one: `starts to cut`, `keeps stirring`."""


def _regular(verb: str) -> list[str]:
    """All regular forms of a verb, and a few spellings that do not exist and do no harm."""
    stem = verb[:-1] if verb.endswith("e") and not verb.endswith("ee") else verb
    forms = [verb, verb + "s", verb + "es", stem + "ed", stem + "ing", verb + "ing"]
    if verb.endswith("y") and verb[-2] not in "aeiou":
        forms += [verb[:-1] + "ies", verb[:-1] + "ied"]
    if verb[-1] not in "aeiouwxy" and verb[-2] in "aeiou":
        forms += [verb + verb[-1] + "ed", verb + verb[-1] + "ing"]
    return forms


def _forms() -> dict[str, str]:
    forms: dict[str, str] = {}
    groups = (MANIPULATE, MOVES_ABOUT, LOOKS, TALKS, GESTURES, OTHERWISE, LIGHT)
    verbs = sorted({verb for group in groups for verb in group})
    for verb in verbs:
        for form in _regular(verb):
            forms.setdefault(form, verb)
    forms.update((verb, verb) for verb in verbs)  # `wind` is no form of `win`
    for group in IRREGULAR.split(","):
        verb, *irregular = group.split()
        forms.update((form, verb) for form in irregular)
    return forms


BASE = _forms()
"""Form -> base form of every verb in the lists above."""

PHRASAL = frozenset(
    (verb, particle) for particle, verbs in PARTICLES.items() for verb in verbs.split()
)

KIND = {
    **dict.fromkeys(OTHERWISE, "no_manipulation"),
    **dict.fromkeys(GESTURES, "own_body"),
    **dict.fromkeys(TALKS, "talks"),
    **dict.fromkeys(LOOKS, "looks"),
    **dict.fromkeys(MOVES_ABOUT, "moves_about"),
    **dict.fromkeys(MANIPULATE, ""),
}
"""Base form -> the reason why a narration with this verb is no candidate; empty where it is."""
