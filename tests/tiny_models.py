"""Tiny checkpoints with random weights, in the files that the real ones come in.

`write(folder)` makes one of each kind that perception uses by default, and of the others asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "?", "hand", "red", "cup", "block", "stapler")
DETECTOR = "grounding-dino-tiny"
VIDEO = "sam2.1-hiera-base-plus"
FRAMES = "sam-vit-base"
METRIC = "Depth-Anything-V2-Metric-Indoor-Small-hf"
RELATIVE = "Depth-Anything-V2-Small-hf"
SIDE = 64
"""Pixels of the square that tiny SAM and SAM 2 look at."""
WIDE = 128
"""Channels of SAM 2, whose memory has 64 whatever its config says, and must have fewer."""


def write(folder: Path, *names: str) -> Path:
    """Write checkpoints (by default those that perception uses) below `folder`; returns it."""
    for name in names or (DETECTOR, VIDEO, METRIC):
        torch.manual_seed(0)
        MAKERS[name](folder / name)
    return folder


def detector(folder: Path) -> None:
    """Grounding DINO with two levels of one layer, and a tokenizer of `WORDS`."""
    small = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "d_model": 32}
    config = transformers.GroundingDinoConfig(
        backbone_config=transformers.SwinConfig(
            embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4,
            image_size=64, out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=16, max_position_embeddings=64,
        ),
        num_queries=30, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, **small,
    )  # fmt: skip
    network = transformers.GroundingDinoForObjectDetection(config)
    network.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 107}
    transformers.GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    _tokenizer().save_pretrained(folder)


def video(folder: Path) -> None:
    """SAM 2 with one block a stage."""
    backbone = transformers.Sam2HieraDetConfig(
        image_size=[SIDE, SIDE], hidden_size=8, num_attention_heads=1,
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 4], window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3],
    )  # fmt: skip
    side = SIDE // 16
    config = transformers.Sam2VideoConfig(
        vision_config=transformers.Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=[64, 32, 16, 8], fpn_hidden_size=WIDE,
            backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [side] * 2],
        ),
        prompt_encoder_config={"hidden_size": WIDE, "image_size": SIDE, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": WIDE, "mlp_dim": 32, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 32},
        image_size=SIDE, memory_attention_hidden_size=WIDE, memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=32, memory_encoder_hidden_size=WIDE,
        mask_downsampler_embed_dim=WIDE,
        memory_fuser_embed_dim=WIDE, memory_fuser_intermediate_dim=32,
        memory_attention_rope_feat_sizes=[side, side],
    )  # fmt: skip
    network = transformers.Sam2VideoModel(config)
    with torch.no_grad():  # it is sure that the thing is there, or it would draw no mask at all
        network.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(5.0)
    network.save_pretrained(folder)


def frames(folder: Path) -> None:
    """SAM with two layers."""
    config = transformers.SamConfig(
        vision_config={
            "hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "mlp_dim": 32,
            "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16, "window_size": 2,
            "num_pos_feats": 8, "global_attn_indexes": [1],
        },
        prompt_encoder_config={"hidden_size": 16, "image_size": SIDE, "patch_size": 16,
                               "image_embedding_size": SIDE // 16, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    transformers.SamModel(config).save_pretrained(folder)
    transformers.SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    ).save_pretrained(folder)


def metric(folder: Path) -> None:
    """Depth Anything V2 with a metric head up to 20 m."""
    _depth(folder, depth_estimation_type="metric", max_depth=20)


def relative(folder: Path) -> None:
    """Depth Anything V2 with a relative head."""
    _depth(folder, depth_estimation_type="relative")


MAKERS: dict[str, Callable[[Path], None]] = {
    DETECTOR: detector, VIDEO: video, FRAMES: frames, METRIC: metric, RELATIVE: relative
}  # fmt: skip


def _depth(folder: Path, **head: object) -> None:
    backbone = transformers.Dinov2Config(
        image_size=56, patch_size=14, hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
        mlp_ratio=2, out_indices=[1, 2, 3, 4], reshape_hidden_states=False,
    )  # fmt: skip
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=8, head_hidden_size=8, **head,
    )  # fmt: skip
    network = transformers.DepthAnythingForDepthEstimation(config)
    with torch.no_grad():  # as it is made, it sees the same depth everywhere
        for part in (network.neck, network.head):
            for weight in part.parameters():
                weight.normal_(0.02 if weight.ndim == 1 else 0.0, 0.16)
        network.head.conv3.bias.fill_(0.5)
    network.save_pretrained(folder)
    transformers.DPTImageProcessorPil(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)  # fmt: skip


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    """BERT's, with the few words that tests use."""
    found = Tokenizer(
        models.WordPiece({word: k for k, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(word, WORDS.index(word)) for word in ("[CLS]", "[SEP]")],
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=found, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
