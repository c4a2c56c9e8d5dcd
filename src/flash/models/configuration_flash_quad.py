"""Configuration of FLASH-Quad."""

from typing import Any, Self

from huggingface_hub.dataclasses import strict

from flash.models.configuration_gated import GatedAttentionConfig
from flash.models.presets import TUNED_LENGTH
from flash.ops.quadratic_attention import SELF_NORMALIZED


@strict
class FLASHQuadConfig(GatedAttentionConfig):
    r"""Settings of a FLASH-Quad model (arXiv 2202.10447).

    Every name of the earlier repository is accepted with its meaning (``s`` is ``query_key_dim``), and a missing
    newer one means the earlier behaviour, so an old ``config.json`` still describes an old model. A new model is better
    made with the settings that learn: ``FLASHQuadConfig.preset("small")``.

    Args:
        vocab_size: Number of token ids.
        hidden_size: Model width ``d``.
        num_hidden_layers: Number of gated attention units; two cost as many parameters as one Transformer layer.
        max_position_embeddings: Longest length ``L`` of training. Longer inputs work: the sinusoid and the rotary
            angles are computed for any position, distances of ``L`` and more take the bias of distance ``L - 1``.
        type_vocab_size: Number of token types (segments).
        initializer_range: Standard deviation of the normal initialisation, where ``initialization`` is ``normal``.
        layer_norm_eps: Added to the mean square (or variance) in every norm.
        pad_token_id: Tokens of this id are ignored where no ``attention_mask`` is given; None for no padding token.
        expansion_factor: ``e / d``, the gate and value width over the model width.
        query_key_dim: Query and key width ``s``, even.
        norm_type: ``scale_norm``, ``layer_norm`` or ``rms_norm``, for the norms over the model width.
        norm_position: ``pre`` normalises the input of a layer's branch, ``post`` the sum of input and branch.
        dropout: Probability of dropout after the embeddings.
        hidden_act: Activation of the unit's input projection and of the masked-language-model head.
        classifier_dropout: Probability of dropout before a classifier; None takes ``dropout``.
        classifier_pooling: What a classifier of texts reads: ``cls`` the output at the first token (at the last one of
            a causal model), ``mean`` that of all tokens, ``cls_plus_mean`` the sum of the two.
        gradient_checkpointing: Recompute activations in the backward pass.
        tie_word_embeddings: Use the word embeddings as the decoder of the language-model heads.
        initialization: ``normal`` draws every weight from N(0, ``initializer_range``^2), as the earlier code;
            ``fan_in`` draws matrices from N(0, 1 / fan-in) and starts gains at 1, offsets and biases at 0.
        attention_function: From scores to weights: ``squared_relu`` (the paper's), ``laplace`` (arXiv 2209.10655),
            ``softmax``, or ``entropy_softmax``, whose scores grow with ``log n / log L``.
        score_scale: ``inverse_length`` weighs by ``f(q.k / L + bias)``, as the earlier code; ``inverse_sqrt_dim`` by
            ``f(q.k / sqrt(s) + bias) / L``. The softmaxes need the latter, and divide by nothing else.
        score_divisor: ``constant`` is this ``L``; ``true_length`` puts the number of tokens that a query sees in its
            place; ``row_sum`` puts the sum of the row in the place of the ``L`` outside.
        attention_norm: Divide the attention output ``A v`` by its root mean square before the gate.
        attention_norm_eps: Added to its mean square; None for ``layer_norm_eps``. ``A`` holds the ``1 / L`` of the
            constant divisor, so a preset gives ``layer_norm_eps * (128 / L)^2``: for all ``L`` the same model.
        final_norm: Normalise the output of the last layer.
        token_shift: Share of the channels that a unit reads from the token before, and as many from the one after
            (none from there in a causal model).
        scaled_sinusoid: Add the sinusoid of the position to the embeddings.
        rotary: Rotate queries and keys by their position.
        relative_bias: Added to the scores: ``toeplitz``, a weight for each distance; ``bucketed``, a weight for each
            range of distances; ``rotary_product``; or ``none``. None means what the earlier code did: ``toeplitz`` up
            to 512 ``max_position_embeddings``, ``rotary_product`` above.
        relative_bias_buckets: Number of ranges of the ``bucketed`` bias.
        relative_bias_max_distance: Distances from here on share its last range.
        causal: See only what came before. ``FLASHQuadForCausalLM`` sets it.
        use_cache: Return a cache of keys and values from a causal model in evaluation mode.
        attention_backend: Implementation of the attention, of a run and not saved: ``reference`` holds all weights;
            ``blocked`` needs memory linear in the length, on any device; ``fused`` and ``materialized`` are Triton
            kernels for CUDA; ``auto`` takes the best that can run.
    """

    model_type = "flash_quad"

    @classmethod
    def preset(cls, name: str, **settings: Any) -> Self:
        """Return the recommended settings for training a new model of a size, see ``GatedAttentionConfig.preset``."""
        config = super().preset(name, **settings)
        divided = config.score_scale == "inverse_sqrt_dim" and config.score_divisor == "constant"
        if "attention_norm_eps" not in settings and divided and config.attention_function not in SELF_NORMALIZED:
            config.attention_norm_eps = config.layer_norm_eps * (TUNED_LENGTH / config.max_position_embeddings) ** 2
        return config
