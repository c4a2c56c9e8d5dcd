"""Rows of results with known numbers."""

from dataclasses import fields

from flash.benchmarking.records import Conditions, Memory, Padding, Point, Timing

CONDITIONS = Conditions("tiny", 128, 3, "modernbert", "a processor", 2, "2.0", "5.0")


def timing(contestant="modernbert", seconds=(1.0, 2.0, 4.0), base=(1.0, 2.0, 4.0), **changes) -> Timing:
    settings = {
        "conditions": CONDITIONS,
        "mode": "training",
        "contestant": contestant,
        "length": 64,
        "rows": 2,
        "status": "ok",
        "note": "",
        "commit": "abc",
        "parameters": 100,
        "step_flops": 1000,
        "seconds": tuple(seconds),
        "baseline_seconds": tuple(base),
        "product_rate": (2000.0,) * len(seconds),
    }
    return Timing(**settings | changes)


def without_numbers(contestant: str, status: str, **changes) -> Timing:
    return timing(contestant, (), (), status=status, **changes)


def memory(contestant="modernbert", step_bytes=1 << 20, **changes) -> Memory:
    return Memory(**_common(contestant) | {"before_bytes": 5 << 20, "peak_bytes": (5 << 20) + step_bytes} | changes)


def padding(contestant="flash-quad", padded=(4.0, 4.0, 4.0), packed=(1.0, 2.0, 4.0)) -> Padding:
    numbers = {"distribution": "headlines", "real_tokens": 32, "padded_seconds": padded, "packed_seconds": packed}
    return Padding(**_common(contestant) | numbers)


def _common(contestant: str) -> dict:
    row = timing(contestant)
    return {field.name: getattr(row, field.name) for field in fields(Point)}
