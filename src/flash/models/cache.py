"""What generation keeps of the tokens so far, as layers of the cache of transformers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

from flash.errors import InputError
from flash.layers.gated_attention_unit import KeyValueState
from flash.layers.mixed_chunk_state import MixedChunkState


class KeyValueCacheLayer(DynamicLayer, KeyValueState):
    """Keys and values of a FLASH-Quad layer, ``(b, 1, m, s)`` and ``(b, 1, m, e)``; they grow with the context.

    A ``DynamicLayer`` copies all of them for each new token, which at 64k tokens takes most of a step. Here they have
    room to grow by a quarter before they are copied; not while autograd records, which needs the old ones.
    """

    keys: Tensor
    values: Tensor

    def __init__(self, query_key_dim: int, value_dim: int) -> None:
        super().__init__()
        self.sizes = {"query_key_dim": query_key_dim, "intermediate_size": value_dim}
        self.mask: Tensor | None = None
        self.shifted: Tensor | None = None
        self._rooms: dict[str, Tensor] = {}

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Add new keys and values, with an axis of one head; return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        if torch.is_grad_enabled() or self.keys.numel() == 0:
            return super().update(key_states, value_states)
        self.keys = self._behind("keys", self.keys, key_states)
        self.values = self._behind("values", self.values, value_states)
        return self.keys, self.values

    def _behind(self, name: str, old: Tensor, new: Tensor) -> Tensor:
        length, end = old.shape[2], old.shape[2] + new.shape[2]
        room = self._rooms.get(name)
        # rows selected, or moved to another device, lie elsewhere; what inference mode made cannot be changed behind it
        unfit = room is None or room.data_ptr() != old.data_ptr() or room.shape[2] < end
        if room is None or unfit or (room.is_inference() and not torch.is_inference_mode_enabled()):
            room = old.new_empty((*old.shape[:2], end + end // 4, old.shape[3]))
            room[:, :, :length] = old
            self._rooms[name] = room
        room[:, :, length:end] = new
        return room[:, :, :end]

    def offload(self) -> None:
        """Move keys and values to the CPU; the room beside them is given up."""
        self._rooms = {}
        super().offload()

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add new keys and values; return all."""
        keys, values = self.update(key[:, None], value[:, None])
        return keys[:, 0], values[:, 0]

    def append_mask(self, mask: Tensor) -> Tensor:
        """Add which new tokens are real, ``(b, n)``; return it of all."""
        self.mask = mask if self.mask is None else torch.cat((self.mask, mask), dim=1)
        return self.mask

    @property
    def is_croppable(self) -> bool:
        """Whether the last tokens can be taken back: not with token shift, which keeps the last one only."""
        return self.shifted is None

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last tokens, ``-tokens_to_remove`` of them."""
        if not self.is_croppable:
            raise InputError(
                "a cache of a model with token_shift cannot forget tokens; generate without an assistant "
                "(assistant_model, prompt_lookup_num_tokens), or with token_shift=0"
            )
        length = self.get_seq_length()
        super().crop(tokens_to_remove)
        if self.mask is not None:
            self.mask = self.mask[:, : self.mask.shape[1] - (length - self.get_seq_length())]

    def reset(self) -> None:
        """Forget everything."""
        self.__init__(*self.sizes.values())  # type: ignore[misc]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows ``beam_idx``."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        super().batch_repeat_interleave(repeats)
        self._change_rows(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Take the rows ``indices``."""
        super().batch_select_indices(indices)
        self._change_rows(lambda x: x[indices.to(x.device)])

    def _change_rows(self, change: Callable[[Tensor], Tensor]) -> None:
        self.mask = None if self.mask is None else change(self.mask)
        self.shifted = None if self.shifted is None else change(self.shifted)

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return -1 if self.mask is None else self.mask.shape[0]


class MixedChunkCacheLayer(DynamicLayer):
    """Recurrent state of a FLASH layer; its size does not depend on the context."""

    is_croppable = False

    def __init__(self, query_key_dim: int, value_dim: int, chunk_size: int) -> None:
        super().__init__()
        self.sizes = {"query_key_dim": query_key_dim, "intermediate_size": value_dim, "chunk_size": chunk_size}
        self.state = MixedChunkState(chunk_size)
        self.length = 0

    def get_seq_length(self) -> int:
        """Count the tokens seen, padding included."""
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Return the length and the offset of the mask of old and new tokens."""
        return self.length + query_length, 0

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Refuse keys and values: FLASH keeps sums."""
        raise InputError("this cache is a FLASH model's; it holds no keys and values of single tokens")

    def crop(self, tokens_to_remove: int) -> None:
        """Refuse to forget tokens: they are part of a sum."""
        raise InputError(
            "the recurrent state of a FLASH model cannot forget tokens; generate without an assistant "
            "(assistant_model, prompt_lookup_num_tokens)"
        )

    def reset(self) -> None:
        """Forget everything."""
        self.__init__(*self.sizes.values())  # type: ignore[misc]

    def offload(self) -> None:
        """Refuse to move to the CPU: the state is small."""
        raise InputError("the recurrent state of a FLASH model is small and stays on its device; do not offload it")

    def prefetch(self) -> None:
        """Do nothing: the state never left its device."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Take the rows ``beam_idx``."""
        self.batch_select_indices(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row."""
        self.state.change_rows(lambda x: x.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        """Take the rows ``indices``."""
        self.state.change_rows(lambda x: x[indices.to(x.device)])

    @property
    def batch_size(self) -> int:
        """Number of rows."""
        return -1 if self.state.is_empty else self.state.position.shape[0]


CacheLayer = KeyValueCacheLayer | MixedChunkCacheLayer


def prepare_cache(cache: Cache | None, layers: list[CacheLayer], batch_size: int) -> Cache:
    """Return a cache made of our layers: a new one, or the given one, which gets them while it is empty.

    Args:
        cache: Such as the ``DynamicCache`` that ``generate`` makes without knowing what a layer keeps.
        layers: One empty layer for each of the model.
        batch_size: Rows of the batch, which those of the cache have to match.
    """
    kind = type(layers[0])
    if cache is None:
        cache = DynamicCache()
    if not isinstance(cache, DynamicCache):
        raise InputError(
            f"past_key_values must be a DynamicCache, got {type(cache).__name__}; leave cache_implementation out"
        )
    if cache.offloading:
        raise InputError(
            "the cache of this model stays on its device: leave out offloading=True (cache_implementation='offloaded')"
        )
    if not cache.layers or not all(isinstance(layer, kind) for layer in cache.layers):
        if cache.layers and cache.get_seq_length() > 0:
            raise InputError(
                f"past_key_values was filled by another model: its layers are {type(cache.layers[0]).__name__}, "
                f"this model's {kind.__name__}"
            )
        cache.layers = list(layers)
    if len(cache.layers) != len(layers):
        raise InputError(f"past_key_values has {len(cache.layers)} layers, this model {len(layers)}")
    if cache.layers[0].sizes != layers[0].sizes:
        raise InputError(
            f"past_key_values was filled by another model, of {_listed(cache.layers[0].sizes)}; this one has "
            f"{_listed(layers[0].sizes)}"
        )
    rows = cache.layers[0].batch_size
    if rows not in (-1, batch_size):
        raise InputError(
            f"past_key_values holds a batch of {rows}, the input is one of {batch_size}; begin with a new cache, or "
            "repeat or select its rows (batch_repeat_interleave, batch_select_indices)"
        )
    return cache


def _listed(sizes: dict[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
