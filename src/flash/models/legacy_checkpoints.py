"""Parameter names of checkpoints published earlier, turned into ours on loading.

In those of FLASH-Quad, ``.a`` and ``.b`` (or ``.w``, above 512 positions) took no part in the computation, and
``position_ids`` and ``scaledsin_embeddings`` are tables of constants; these keys are accepted and dropped.
"""

from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import WeightRenaming

# Pattern searched in the whole key -> replacement. transformers turns the table round to write the earlier names, so a
# row may hold one group and no "$"; it adds the end of a word itself (".w" does not match ".weight").
FLASH_QUAD_RENAMINGS = (
    (r"embeddings\.scaledsin_scalar", "embeddings.position_embeddings.scale"),
    (r"embeddings\.LayerNorm\.scala", "embeddings.norm.scale"),
    (r"embeddings\.LayerNorm\.weight", "embeddings.norm.weight"),
    (r"embeddings\.LayerNorm\.bias", "embeddings.norm.bias"),
    (r"encoder\.layer\.(\d+)\.weight", r"layers.\1.offset_scale.gain"),
    (r"encoder\.layer\.(\d+)\.bias", r"layers.\1.offset_scale.offset"),
    (r"encoder\.layer\.(\d+)\.w", r"layers.\1.relative_bias.weight"),
    (r"encoder\.layer\.(\d+)\.a", r"layers.\1.relative_bias.left"),
    (r"encoder\.layer\.(\d+)\.b", r"layers.\1.relative_bias.right"),
    (r"encoder\.layer\.(\d+)\.uv", r"layers.\1.in_proj"),
    (r"encoder\.layer\.(\d+)\.o", r"layers.\1.out_proj"),
    (r"encoder\.layer\.(\d+)\.LayerNorm\.scala", r"layers.\1.norm.scale"),
    (r"encoder\.layer\.(\d+)\.LayerNorm\.weight", r"layers.\1.norm.weight"),
    (r"encoder\.layer\.(\d+)\.LayerNorm\.bias", r"layers.\1.norm.bias"),
    (r"cls\.predictions\.transform\.LayerNorm\.scala", "lm_head.norm.scale"),
    (r"cls\.predictions\.transform\.LayerNorm\.weight", "lm_head.norm.weight"),
    (r"cls\.predictions\.transform\.LayerNorm\.bias", "lm_head.norm.bias"),
    (r"cls\.predictions\.transform\.dense", "lm_head.dense"),
    (r"cls\.predictions\.decoder", "lm_head.decoder"),
    (r"cls\.predictions\.bias", "lm_head.bias"),
)

# GAU-alpha as github.com/JunnYu/GAU-alpha-pytorch saves it
GAU_ALPHA_RENAMINGS = (
    (r"encoder\.layer\.(\d+)\.gau\.i_dense", r"layers.\1.in_proj"),
    (r"encoder\.layer\.(\d+)\.gau\.o_dense", r"layers.\1.out_proj"),
    (r"encoder\.layer\.(\d+)\.gau\.q_scaleoffset\.weight", r"layers.\1.offset_scale.query_gain"),
    (r"encoder\.layer\.(\d+)\.gau\.k_scaleoffset\.weight", r"layers.\1.offset_scale.key_gain"),
    (r"cls\.predictions\.decoder", "lm_head.decoder"),
)

RENAMINGS = {"flash_quad": FLASH_QUAD_RENAMINGS, "gau_alpha": GAU_ALPHA_RENAMINGS}

# Keys that the earlier code saved and this one has no parameter for.
UNUSED_KEYS = (
    r"embeddings\.position_ids$",
    r"embeddings\.scaledsin_embeddings$",
    r"layers\.\d+\.relative_bias\.(weight|left|right)$",
    r"encoder\.layer\.\d+\.[abw]$",
)


def register_legacy_names(model_type: str) -> None:
    """Make ``from_pretrained`` of every model of this type accept the names of earlier checkpoints."""
    if model_type not in RENAMINGS:
        return
    register_checkpoint_conversion_mapping(
        model_type,
        [WeightRenaming(source_patterns=old, target_patterns=new) for old, new in RENAMINGS[model_type]],
        overwrite=True,
    )
