"""Write what LeRobot's π0 and π0.5 answer at a small random size, for `tests/test_pi0_golden.py`.

    python3.12 -m venv oracle
    oracle/bin/pip install "lerobot[pi]==0.6.1" transformers==5.5.4
    PYTHONPATH=. oracle/bin/python tests/golden/make_pi0.py

Nothing but LeRobot's code and `tests/golden/lerobot_pi0.py`, which sets its sizes, takes part. The
committed files come from lerobot 0.6.1, transformers 5.5.4 and torch 2.11 on an x86 CPU, one
thread, fp32; another run there gives the same bytes. In `tests/golden/pi0` and `pi05`:

- `model.safetensors`, `config.json`: the policy as its `save_pretrained` writes it.
- `results.safetensors`: inputs (`images` (B, C, H, W, 3) uint8, `image_mask`, `tokens`,
  `token_mask`, `state`, `actions`, `noise`, `time`) and answers: `pictures` (B, C, tokens, width)
  out of the projector, `errors` and `sampled` (B, horizon, action_size), for the mean of the errors
  `norm.NAME` of each parameter's gradient and some gradients in full as `gradient.NAME`, with
  LeRobot's names.

The batch has a camera that everyone has, one that one sample lacks, one that nobody has, and texts
of different lengths. π0.5 has no state but in the text.
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.golden import lerobot_pi0
from tests.golden.pi0_size import GOLDEN
from training.pi0.config import Pi0Config

BATCH = 3
PALIGEMMA = "model.paligemma_with_expert.paligemma.model"
EXPERT = "model.paligemma_with_expert.gemma_expert.model"
FULL = (
    f"{PALIGEMMA}.vision_tower.vision_model.embeddings.patch_embedding.weight",
    f"{PALIGEMMA}.vision_tower.vision_model.embeddings.position_embedding.weight",
    f"{PALIGEMMA}.vision_tower.vision_model.encoder.layers.1.self_attn.q_proj.weight",
    f"{PALIGEMMA}.language_model.embed_tokens.weight",
    f"{PALIGEMMA}.language_model.layers.0.self_attn.k_proj.weight",
    f"{PALIGEMMA}.language_model.layers.1.mlp.up_proj.weight",
    f"{EXPERT}.layers.0.self_attn.q_proj.weight",
    f"{EXPERT}.layers.1.input_layernorm.dense.weight",
    f"{EXPERT}.layers.2.mlp.gate_proj.weight",
    "model.action_time_mlp_in.weight",
    "model.time_mlp_in.weight",
)
"""Parameters whose gradients are kept in full, where the policy has them."""


def main() -> None:
    """Make each policy, ask it, write both."""
    torch.set_num_threads(1)
    for folder, size in GOLDEN.items():
        torch.manual_seed(0)
        policy = lerobot_pi0.policy(size)
        _randomise(policy)
        folder.mkdir(exist_ok=True)
        policy.save_pretrained(folder)
        inputs = _inputs(size)
        save_file(inputs | _answers(policy, inputs), folder / "results.safetensors")
        for file in folder.iterdir():
            file.chmod(0o644)  # safetensors makes its files private


@torch.no_grad()
def _randomise(policy: lerobot_pi0.Policy) -> None:
    """Weights all of which matter: norms and biases that do something, no symmetry.

    The policy's two copies of the token embedding, of which LeRobot trains and uses one, differ.
    """
    for name, parameter in policy.named_parameters():
        fresh = torch.randn(parameter.shape)
        if parameter.dim() > 1:
            parameter.copy_(fresh * parameter[0].numel() ** -0.5)
        else:
            layer_norm = "layer_norm" in name or "post_layernorm" in name
            parameter.copy_(0.3 * fresh + float(layer_norm and name.endswith("weight")))


def _inputs(size: Pi0Config) -> dict[str, Tensor]:
    side, actions = size.vision.image, (BATCH, size.horizon, size.action_size)
    lengths = torch.tensor([[size.text_tokens], [4], [1]])
    token_mask = torch.arange(size.text_tokens) < lengths
    return {
        "images": torch.randint(0, 256, (BATCH, 2, side, side, 3), dtype=torch.uint8),
        "image_mask": torch.tensor([[True, True], [True, False], [True, True]]),
        "tokens": torch.randint(1, size.vocabulary, token_mask.shape) * token_mask,
        "token_mask": token_mask,
        "state": torch.randn(BATCH, size.action_size),
        "actions": torch.randn(actions),
        "noise": torch.randn(actions),
        "time": torch.tensor([0.03, 0.5, 1.0]),
    }


def _answers(policy: lerobot_pi0.Policy, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    images, masks = lerobot_pi0.pictures(
        inputs["images"], inputs["image_mask"], len(lerobot_pi0.CAMERAS)
    )
    _check_pictures(policy, inputs, images)
    seen = images, masks, inputs["tokens"], inputs["token_mask"]
    if policy.name == "pi0":  # π0.5 is told the state in words
        seen = *seen, inputs["state"]
    errors = policy.model(*seen, inputs["actions"], inputs["noise"], inputs["time"])
    errors.mean().backward()
    gradients = {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}
    shown = [policy.model.paligemma_with_expert.embed_image(image) for image in images[:2]]
    return {
        "pictures": torch.stack(shown, dim=1).detach().contiguous(),
        "errors": errors.detach(),
        "sampled": policy.model.sample_actions(*seen, noise=inputs["noise"], num_steps=10),
        **{f"norm.{name}": gradient.norm() for name, gradient in gradients.items()},
        **{f"gradient.{name}": gradients[name] for name in FULL if name in gradients},
    }


def _check_pictures(
    policy: lerobot_pi0.Policy, inputs: dict[str, Tensor], images: list[Tensor]
) -> None:
    """See that the images handed to LeRobot's model are those that its policy would make."""
    one = {
        f"observation.images.{name}": inputs["images"][:, camera].permute(0, 3, 1, 2) / 255
        for camera, name in enumerate(lerobot_pi0.CAMERAS[:2])
    }
    own, masks = policy._preprocess_images(one)
    for ours, theirs in zip(images, own, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert [bool(mask.all()) for mask in masks] == [True, True, False]


if __name__ == "__main__":
    main()
