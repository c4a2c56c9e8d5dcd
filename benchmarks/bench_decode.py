"""Time and memory of one more generated token against the length of the context: FLASH, FLASH-Quad, Transformers.

    taskset -c 1 python benchmarks/bench_decode.py --results decode.json --figure decode.png
    python benchmarks/bench_decode.py --contexts 64 128 --hidden-size 64 --units 2 --rounds 1     # seconds

Batch of one, random weights, float32. FLASH reads its context for real, in pieces. Reading 128k tokens with quadratic
attention costs a hundred times as much, so the caches of the others are filled with random keys and values of the right
shapes, through the interface of the cache; what a token costs does not depend on their values. All models at all
contexts take turns, so that a slow spell of the machine hits all of them.
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache, DynamicLayer

from flash import FLASHConfig, FLASHForCausalLM, FLASHQuadConfig, FLASHQuadForCausalLM
from flash.models.presets import RECOMMENDED

from generated_page import markdown_table
from harness import machine, side_by_side

VOCABULARY = 12000
HEAD_DIM = 64
CHUNK = 256
PIECE = 4096  # tokens that FLASH reads at a time
BASELINE = "Transformer"
SETTINGS = RECOMMENDED


@dataclass(frozen=True)
class Measured:
    """What one model took at one context.

    Args:
        seconds: Of a token, one number a round.
        copy_seconds: Of these, for copying keys and values to where there is room for one more; 0 without copies.
        cache_bytes: Held by the cache.
    """

    model: str
    context: int
    seconds: list[float]
    copy_seconds: list[float]
    cache_bytes: int


@dataclass
class Decoder:
    """A model that has read a context, and goes on one token at a time."""

    model: PreTrainedModel
    cache: Cache
    token: Tensor

    def generate(self, tokens: int) -> None:
        """Choose the most probable token, ``tokens`` times."""
        for _ in range(tokens):
            outputs = self.model(input_ids=self.token, past_key_values=self.cache, use_cache=True, logits_to_keep=1)
            self.token = outputs.logits[:, -1:].argmax(dim=-1)

    def copy_cache(self) -> None:
        """Do once what a ``DynamicLayer`` does for every token: join one more key and value to the others."""
        for layer in self.cache.layers:
            if type(layer) is DynamicLayer:  # FLASH keeps no keys, FLASH-Quad has room for more
                for x in (layer.keys, layer.values):
                    torch.cat((x, x[..., :1, :]), dim=-2)


def build_models(hidden_size: int, units: int) -> dict[str, PreTrainedModel]:
    """Build the contestants, equal in parameters: two gated attention units for each layer of a Transformer."""
    torch.manual_seed(0)
    # generated tokens are none of them padding
    gated = {"vocab_size": VOCABULARY, "hidden_size": hidden_size, "num_hidden_layers": units, "pad_token_id": None}
    heads = hidden_size // HEAD_DIM
    models: dict[str, PreTrainedModel] = {
        "FLASH": FLASHForCausalLM(FLASHConfig(**gated, **SETTINGS, chunk_size=CHUNK)),
        "FLASH-Quad": FLASHQuadForCausalLM(FLASHQuadConfig(**gated, **SETTINGS)),
    }
    size = sum(parameter.numel() for parameter in models["FLASH-Quad"].base_model.layers.parameters())
    for name, key_value_heads in ((BASELINE, heads), ("Transformer, 1 key/value head", 1)):
        attention = 2 * hidden_size * HEAD_DIM * (heads + key_value_heads)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden_size,
            num_hidden_layers=units // 2,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            intermediate_size=round((2 * size / units - attention) / (3 * hidden_size)),
            max_position_embeddings=1 << 20,
            tie_word_embeddings=True,
            attn_implementation="sdpa",
            bos_token_id=None,
            eos_token_id=None,
        )
        models[name] = LlamaForCausalLM(config)
    return {name: model.eval() for name, model in models.items()}


def read_contexts(model: PreTrainedModel, contexts: Sequence[int]) -> Iterator[Cache]:
    """Read random tokens in pieces; give the cache behind each context, shortest first."""
    generator = torch.Generator().manual_seed(0)
    cache, length = None, 0
    for context in sorted(contexts):
        while length < context:
            piece = min(PIECE, context - length)
            input_ids = torch.randint(0, VOCABULARY, (1, piece), generator=generator)
            outputs = model(input_ids=input_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache, length = outputs.past_key_values, length + piece
        yield copy.deepcopy(cache)


def random_context(model: PreTrainedModel, context: int) -> Cache:
    """Read one token, and add random keys and values for ``context - 1`` more."""
    cache = model(input_ids=torch.zeros((1, 1), dtype=torch.long), use_cache=True).past_key_values
    for index, layer in enumerate(cache.layers):
        shapes = [(*x.shape[:2], context - 1, x.shape[3]) for x in (layer.keys, layer.values)]
        keys, values = (torch.randn(shape) for shape in shapes)
        if hasattr(layer, "append_mask"):  # FLASH-Quad also keeps which tokens are real
            layer.append(keys[:, 0], values[:, 0])
            layer.append_mask(torch.ones((1, context - 1), dtype=torch.bool))
        else:
            cache.update(keys, values, index)
    return cache


def cache_bytes(cache: Cache) -> int:
    """Count the memory behind all tensors of the cache, one shared by several counted once."""
    storages = (x.untyped_storage() for layer in cache.layers for x in _tensors_in(layer))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def measure(models: dict[str, PreTrainedModel], contexts: Sequence[int], *, rounds: int, tokens: int) -> list[Measured]:
    """Generate ``tokens`` a round from each model at each context, in turn."""
    decoders: dict[tuple[str, int], Decoder] = {}
    first = torch.ones((1, 1), dtype=torch.long)
    for name, model in models.items():
        if name == "FLASH":
            caches = read_contexts(model, contexts)
        else:
            caches = (random_context(model, context) for context in sorted(contexts))
        for context, cache in zip(sorted(contexts), caches, strict=True):
            decoders[name, context] = Decoder(model, cache, first)
    held = {key: cache_bytes(decoder.cache) for key, decoder in decoders.items()}

    # the harness times what has a name
    generations = {json.dumps(key): partial(decoder.generate, tokens) for key, decoder in decoders.items()}
    copies = {json.dumps([*key, "copy"]): decoder.copy_cache for key, decoder in decoders.items()}
    timed = side_by_side(generations | copies, rounds=rounds)
    return [
        Measured(
            name,
            context,
            seconds=[seconds / tokens for seconds in timed[json.dumps([name, context])]],
            copy_seconds=timed[json.dumps([name, context, "copy"])],
            cache_bytes=held[name, context],
        )
        for name, context in decoders
    ]


def chunk_ends(model: PreTrainedModel, *, chunks: int) -> tuple[float, float]:
    """Generate whole chunks with FLASH; return the median seconds of a token that ends one, and of the others."""
    decoder = Decoder(model, next(read_contexts(model, [CHUNK])), torch.ones((1, 1), dtype=torch.long))
    seconds = []
    for _ in range(chunks * CHUNK):
        started = time.perf_counter()
        decoder.generate(1)
        seconds.append(time.perf_counter() - started)
    ends = seconds[CHUNK - 1 :: CHUNK]
    others = [s for index, s in enumerate(seconds, start=1) if index % CHUNK]
    return statistics.median(ends), statistics.median(others)


def time_table(measured: list[Measured]) -> str:
    """Write milliseconds a token: median, least and most, and the ratio to the Transformer, round by round."""

    def cell(own: Measured, base: Measured) -> str:
        least, most = min(own.seconds), max(own.seconds)
        ratio = statistics.median(x / y for x, y in zip(own.seconds, base.seconds, strict=True))
        times = f"{_ms(statistics.median(own.seconds))} ({_ms(least)} ... {_ms(most)})"
        return times if own is base else f"{times}; {ratio:.2f}"

    return _by_context(measured, cell)


def copy_table(measured: list[Measured]) -> str:
    """Write which share of a token's time goes into copying the cache, in percent of medians."""

    def cell(own: Measured, _: Measured) -> str:
        return f"{statistics.median(own.copy_seconds) / statistics.median(own.seconds):.0%}"

    return _by_context(measured, cell)


def memory_table(measured: list[Measured]) -> str:
    """Write the size of the cache in MiB."""
    return _by_context(measured, lambda own, _: f"{own.cache_bytes / (1 << 20):,.2f}")


def draw(measured: list[Measured], path: Path) -> None:
    """Draw time and memory against the context, both axes logarithmic, into a PNG."""
    # the object interface, not pyplot: no global state and no display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    contexts = sorted({one.context for one in measured})
    for name in dict.fromkeys(one.model for one in measured):
        own = [one for one in measured if one.model == name]
        times = [[1e3 * s for s in (statistics.median(x.seconds), min(x.seconds), max(x.seconds))] for x in own]
        medians, least, most = zip(*times, strict=True)
        (line,) = panels[0].plot(contexts, medians, "o-", label=name, markersize=4, linewidth=1.5)
        panels[0].fill_between(contexts, least, most, color=line.get_color(), alpha=0.2, linewidth=0)
        panels[1].plot(
            contexts, [x.cache_bytes / (1 << 20) for x in own], "o-", label=name, markersize=4, linewidth=1.5
        )
    for axes, label in zip(panels, ("milliseconds a generated token", "cache (MiB)"), strict=True):
        axes.set(xscale="log", yscale="log", xlabel="context (tokens)", ylabel=label)
        axes.xaxis.set_major_locator(FixedLocator(contexts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n / 1024:g}k" if n >= 1024 else f"{n:g}"))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.grid(alpha=0.3, which="both")
    panels[1].legend(frameon=False)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 4096, 16384, 65536, 131072])
    parser.add_argument("--hidden-size", type=int, default=256, help=f"a multiple of {HEAD_DIM}")
    parser.add_argument("--units", type=int, default=4, help="gated attention units, even; Transformers get half")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=8, help="generated in a row, each round")
    parser.add_argument("--chunks", type=int, default=3, help="whole chunks of FLASH, for the cost of ending one")
    parser.add_argument("--results", type=Path, help="write every round to this JSON file")
    parser.add_argument("--figure", type=Path, help="write the two curves to this PNG file")
    options = parser.parse_args(arguments)
    if options.hidden_size % HEAD_DIM or options.units % 2 or min(options.contexts) < 2:
        parser.error(f"--hidden-size must be a multiple of {HEAD_DIM}, --units even, --contexts at least 2")

    with torch.inference_mode():
        models = build_models(options.hidden_size, options.units)
        measured = measure(models, options.contexts, rounds=options.rounds, tokens=options.tokens)
        end, other = chunk_ends(models["FLASH"], chunks=options.chunks)
    parameters = {name: model.num_parameters() for name, model in models.items()}
    print(f"{machine()}; {options.rounds} rounds of {options.tokens} tokens")
    print(", ".join(f"{name}: {count:,} parameters" for name, count in parameters.items()))
    print(f"\nmilliseconds a token, median (least ... most); ratio to {BASELINE}\n\n{time_table(measured)}")
    print(f"\nof this, copying the cache to make room for a token\n\n{copy_table(measured)}")
    print(f"\ncache, MiB\n\n{memory_table(measured)}")
    print(
        f"\nFLASH: a token that ends a chunk {_ms(end)} ms, others {_ms(other)} ms (medians of {options.chunks} chunks)"
    )
    if options.results:
        record = {
            "machine": machine(),
            "options": {name: value for name, value in vars(options).items() if not isinstance(value, Path)},
            "parameters": parameters,
            "measured": [asdict(one) for one in measured],
            "seconds_of_chunk_end": end,
            "seconds_of_other_tokens": other,
        }
        options.results.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if options.figure:
        draw(measured, options.figure)


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """Find all tensors, whatever an implementation of a cache keeps them in."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _tensors_in(item)
    elif hasattr(value, "__dict__"):
        yield from _tensors_in(vars(value))


def _by_context(measured: list[Measured], cell: Callable[[Measured, Measured], str]) -> str:
    found = {(one.context, one.model): one for one in measured}
    names = list(dict.fromkeys(one.model for one in measured))
    rows = [
        [f"{context:,}", *(cell(found[context, name], found[context, BASELINE]) for name in names)]
        for context in sorted({one.context for one in measured})
    ]
    return markdown_table(["context", *names], rows)


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g}"


if __name__ == "__main__":
    main()
