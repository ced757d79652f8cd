"""Meta's own `segment-anything`, tiny and random, in a process of its own.

It needs torchvision, whose wheels are for CUDA: on a CPU torch it is imported after what it misses
is registered. Set EGOSCALER_META_PACKAGES to a folder with both packages:
`pip install --no-deps --target FOLDER segment-anything torchvision`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="perception with weights is not installed")

from ego_ops.errors import UserError
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.sam_meta import SamMeta
from tests.test_learned_models import pictures, prompts  # noqa: F401

SCRIPT = """
import sys
import torch

for name, form in {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}.items():
    torch.library.define(f"torchvision::{name}", form)
import torchvision.extension
torchvision.extension._has_ops = lambda: True
import numpy as np
import segment_anything
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam
from segment_anything.modeling import TwoWayTransformer
from pathlib import Path
from ego_ops.errors import UserError
from ego_ops.perception.learned.device import Device
from ego_ops.perception.learned.sam_meta import SamMeta
from ego_ops.perception.learned.segment import Prompts

def tiny():
    torch.manual_seed(0)
    return Sam(
        ImageEncoderViT(img_size=64, patch_size=16, embed_dim=16, depth=2, num_heads=2,
                        out_chans=16, use_rel_pos=True, window_size=2, global_attn_indexes=(1,)),
        PromptEncoder(16, (4, 4), (64, 64), 4),
        MaskDecoder(transformer_dim=16, num_multimask_outputs=3,
                    transformer=TwoWayTransformer(2, 16, 2, 32)),
    )

segment_anything.sam_model_registry["tiny"] = tiny
folder = Path(sys.argv[1])
torch.save(tiny().state_dict(), folder / "tiny.pth")
images = np.load(folder / "images.npy")
asked = Prompts(*(np.load(folder / f"{name}.npy") for name in ("object", "hands")))
found = SamMeta(folder / "tiny.pth", Device("cpu"), "tiny").masks(images, asked)
predictor = segment_anything.SamPredictor(tiny().eval())
predictor.set_image(images[1])
wanted = [predictor.predict(box=box[1], multimask_output=False)[0][0]
          for box in (asked.object, asked.hands[:, 0])]
assert found.object.shape == found.hand.shape == images.shape[:3]
assert (found.hand[1] == wanted[1]).all()
assert (found.object[1] == wanted[0] & ~wanted[1]).all()
assert 0 < found.hand[1:].mean() < 1 and not found.hand[0].any()
for path, kind, line in (("tiny.pth", "vit_x", "no SAM of the size"),
                         ("images.npy", "tiny", "not a checkpoint of SAM tiny")):
    try:
        SamMeta(folder / path, Device("cpu"), kind).masks(images, asked)
        sys.exit("no error")
    except UserError as error:
        assert line in str(error), error
print("as it should be")
"""


def test_without_the_package_one_line_says_what_to_install(tmp_path: Path, pictures) -> None:  # noqa: F811
    if "segment_anything" in sys.modules:
        pytest.skip("segment-anything is installed")
    with pytest.raises(UserError, match="pip install segment-anything torchvision"):
        SamMeta(tmp_path / "none.pth", Device("cpu")).masks(pictures, prompts())


def test_masks_are_those_of_metas_own_predictor(tmp_path: Path, pictures) -> None:  # noqa: F811
    import numpy as np

    folder = os.environ.get("EGOSCALER_META_PACKAGES", "")
    if not Path(folder or "/nonexistent", "segment_anything").is_dir():
        pytest.skip("EGOSCALER_META_PACKAGES names no folder with segment-anything")
    np.save(tmp_path / "images.npy", pictures)
    np.save(tmp_path / "object.npy", prompts().object)
    np.save(tmp_path / "hands.npy", prompts().hands)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((os.environ["PYTHONPATH"], folder))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=120, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "as it should be\n"
