"""Dataset cards: what someone who finds the dataset should know."""

from __future__ import annotations

import numpy as np

from ego_ops.quality import SCORES
from training.export.corpora import terms
from training.export.plan import Plan
from training.export.release import Count, Tally

_POSES = """Camera axes are OpenCV's: x right, y down, z forward. `T_a_b` maps points in frame b to
frame a; metres, seconds, radians; quaternions are scalar-last (x, y, z, w)."""

_CONVENTIONS = f"""## Conventions

{_POSES}

| column | shape | meaning |
|---|---|---|
| `timestamps` | T | seconds from the first displayed frame of the video |
| `position`, `rotation` | T x 3, T x 4 | T_first_object: the object in the first step's camera |
| `camera_position`, `camera_rotation` | T x 3, T x 4 | T_first_camera |
| `action` | T x 9 | the step to the next pose in the object's own frame: translation, then two \
columns of the rotation matrix; the last is that of standing still |
| `visible` | T | whether the object was observed at that step, not bridged over |
| `intrinsics`, `image_size` | 4, 2 | fx, fy, cx, cy and width, height in pixels, lens undone |"""


def lerobot_card(repo_id: str, plan: Plan) -> str:
    """README.md of a LeRobot dataset."""
    hours = plan.frames / plan.fps / 3600
    return f"""---
license: other
task_categories: [robotics]
tags: [LeRobot, egocentric, object-trajectories]
configs:
- config_name: default
  data_files: data/*/*.parquet
---
# {repo_id}

Trajectories of handled objects from first-person video, as a LeRobotDataset v3.0:
{len(plan.ids)} episodes, {plan.frames} frames at {plan.fps} Hz ({hours:.2f} h), {len(plan.tasks)}
tasks. Made by egoscaler-ray.

**It holds pixels of the corpora's videos: their licences bind it, and most forbid to pass it on.**

| feature | numbers | meaning |
|---|---|---|
| `observation.images.base_0_rgb` | 224 x 224 x 3 | the wearer's view, letterboxed |
| `observation.state` | 9 | the object's pose in the camera frame of that step: position (m), then \
the first and second column of its rotation matrix |
| `action` | 9 | the step to the next pose in the object's own frame: translation (m), then the \
first and second column of the rotation matrix |

{_POSES}

The last action of an episode is that of standing still, and was not recorded: nothing follows it
(`info` of the feature `action` says `last_is_filler`). So a chunk of actions that is cut off by the
end of its episode is filled up with standing still. `meta/clips.parquet` has the id of each
episode's clip in the shards.

```python
from lerobot.datasets.lerobot_dataset import LeRobotDataset
dataset = LeRobotDataset("{repo_id}", root="THIS FOLDER")
print(dataset[0]["observation.state"], dataset[0]["task"])
```
"""


def release_card(repo_id: str, tally: Tally, texts: bool) -> str:
    """README.md of a release without pixels."""
    parts = [_front(repo_id, tally, texts), _load(repo_id), _CONVENTIONS, _limits(tally)]
    return "\n\n".join(parts)


def _front(repo_id: str, tally: Tally, texts: bool) -> str:
    """What it is, and how much of it."""
    total = sum(count.clips for count in tally.corpora.values())
    words = "Narrations are in it" if texts else "Narrations are not in it"
    return f"""---
license: other
task_categories: [robotics]
tags: [egocentric, object-trajectories, 6dof]
size_categories: [{_size(total)}]
configs:
- config_name: default
  data_files: data/*/*.parquet
{_configs(tally)}
---
# {repo_id}

6DoF trajectories of handled objects, from first-person video by egoscaler-ray: {total} clips. **No
pixels**: each row points at its source (`corpus`, `corpus_version`, `video_uid`, `video_path`,
`t_start`, `t_end`, `timestamps`), which its owner gives out. {words}.

## What is in it

{_corpora(tally)}

{_scores(tally)}"""


def _load(repo_id: str) -> str:
    return f"""## Load

```python
from datasets import load_dataset
clips = load_dataset("{repo_id}", split="train", streaming=True)  # or the path of this folder
clip = next(iter(clips))
print(clip["corpus"], clip["video_uid"], clip["timestamps"][0], clip["position"][0])
```

Frames come from the videos: get them from their owners, run `egoscaler index` and `egoscaler
extract` on them; rows there have the same `clip_id`."""


def _limits(tally: Tally) -> str:
    """What may be done with it, and what not to trust."""
    return f"""## Licences

{_licences(tally)}

`redistributable` says whether anyone may pass on the corpus's videos and annotations. What may be
done with data derived from them is for their terms to say: read them where they are.

## Known failures

Poses come from a moving camera and from tracked points, so they are estimates. Choose by the score
columns: `confidence`, `position_sd_m`, `rotation_sd_rad`, `observed_share`. An object that looks
the same however it is turned (`is_symmetric`) has no certain rotation about its axis;
`is_ambiguous` marks more than one motion that fits; without recorded camera poses or depth the
metric scale is a guess (`depth_scale_spread`). What extraction turned down or failed on is not in
it:

{_ended(tally)}
"""


def _configs(tally: Tally) -> str:
    each = sorted(tally.corpora)
    return "\n".join(f"- config_name: {name}\n  data_files: data/{name}/*.parquet" for name in each)


def _table(head: str, rows: list[str]) -> str:
    rule = "|" + "---|" * (head.count("|") - 1)
    return "\n".join([head, rule, *rows])


def _corpora(tally: Tally) -> str:
    def row(name: str, count: Count) -> str:
        versions = ", ".join(sorted(count.versions))
        return (
            f"| {terms(name).title} | {versions} | {count.clips} | {len(count.videos)} "
            f"| {count.steps} | {count.seconds / 3600:.2f} |"
        )

    rows = [row(name, count) for name, count in sorted(tally.corpora.items())]
    return _table("| corpus | version | clips | videos | steps | hours |", rows)


def _scores(tally: Tally) -> str:
    rows = []
    for name, values in tally.scores.items():
        if len(values):
            low, middle, high = np.percentile(values, [5, 50, 95])
            rows.append(f"| `{name}` | {low:.3g} | {middle:.3g} | {high:.3g} | {SCORES[name]} |")
    return _table("| score | 5 % | median | 95 % | meaning |", rows)


def _licences(tally: Tally) -> str:
    rows = []
    for name in sorted(tally.corpora):
        of = terms(name)
        passed = "yes" if of.redistributable else "no"
        rows.append(f"| {of.title} | {of.licence} | {passed} | {of.url} |")
    return _table("| corpus | licence | redistributable | from |", rows)


def _ended(tally: Tally) -> str:
    rows = [
        f"| {terms(corpus).title} | {status} | {label} | {count} |"
        for (corpus, status, label), count in sorted(tally.ended.items())
        if status != "ok"
    ]
    return _table("| corpus | | why | clips |", rows) if rows else "nothing, here."


def _size(count: int) -> str:
    """The hub's words for how large a dataset is."""
    steps = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"]
    return steps[int(np.searchsorted([1e3, 1e4, 1e5, 1e6], count, side="right"))]
