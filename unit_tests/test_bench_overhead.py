"""The bench of wall time over ideal time, over scripted engines whose times are known."""

from __future__ import annotations

import pytest

from langchain_glimprouter.bench import decode_speed, overhead
from langchain_glimprouter.bench.overhead import OverheadBench, Run, as_json
from langchain_glimprouter.bench.tasks.base import Question
from langchain_glimprouter.engines.base import Sampling
from langchain_glimprouter.engines.scripted import ScriptedEngine, ScriptedStep
from langchain_glimprouter.routing.options import TurnOptions
from langchain_glimprouter.routing.policies import GlimpRouter, Reference
from langchain_glimprouter.routing.thresholds import Fixed

DELAYS = {"small": 0.001, "large": 0.002}  # seconds a token
FIRST = {"small": 0.005, "large": 0.01}  # seconds a request
QUESTIONS = [Question(f"q{n}", f"What is {n} + 4?", str(n + 4)) for n in (3, 5)]


class Cached(ScriptedEngine):
    """Writes down what its cache is asked to hold."""

    def __init__(self, role: str, entropy: float) -> None:
        steps = [ScriptedStep(f"{role} {n} is a step.\n\n", entropy) for n in range(4)]
        super().__init__(
            steps,
            "The answer is seven.",
            name=role,
            delay=DELAYS[role],
            prefill_delay=FIRST[role],
        )
        self.prefilled: list[list[int]] = []

    async def prefill(self, token_ids: object) -> None:
        self.prefilled.append(list(token_ids))  # type: ignore[call-overload]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decode_speed, overhead):
        monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(overhead, "_CALIBRATION", {"small": 6, "large": 6})


async def measured(entropy: float) -> tuple[OverheadBench, list[Run], list[str], list[Cached]]:
    engines = [Cached("small", entropy), Cached("large", entropy)]
    cooled: list[str] = []

    async def cool() -> None:
        cooled.append("cool")

    bench = OverheadBench(
        {"small": engines[0], "large": engines[1]},
        "scripted",
        TurnOptions(max_thinking_tokens=64, max_tokens=32, sampling=Sampling(temperature=0.0)),
        thinking=True,
        cool=cool,
    )
    runs = await bench.run(QUESTIONS, [GlimpRouter(Fixed(1.0)), Reference(Fixed(1.0))])
    return bench, runs, cooled, engines


@pytest.mark.parametrize("entropy", [0.1, 2.0])
async def test_a_turns_time_falls_into_parts(entropy: float) -> None:
    bench, runs, _, _ = await measured(entropy)
    assert [(run.question, run.policy) for run in runs] == [
        (0, "glimprouter"),
        (0, "reference"),
        (1, "reference"),
        (1, "glimprouter"),
    ]
    for run in runs:
        wrote = {role: run.trace["usage"][role]["decode"] for role in FIRST}
        assert run.ideal >= sum(wrote[role] * DELAYS[role] for role in FIRST)
        # What is left is little, since these engines' times are known.
        assert abs(run.rest) <= 0.5 * run.wall
        asked = {role: sum(r.role == role for r in run.requests) for role in FIRST}
        assert asked == {role: run.trace["usage"][role]["requests"] for role in FIRST}
        # A first token takes the request's delay beyond its own; a busy machine's clock is rough.
        assert run.prompt >= 0.5 * sum(FIRST.values())
        further = sum((asked[role] - 1) * FIRST[role] for role in FIRST)
        assert run.switching >= 0.5 * further
        assert run.ratio > run.routing_ratio
    written = as_json([bench])
    assert [run["ratio"] for run in written["runs"]] == [run.ratio for run in runs]
    assert written["runs"][0]["requests"][0]["role"] == "small"
    assert len(written["decode_seconds"]["scripted"]["large"]) == len(runs) + 1


async def test_every_turn_finds_the_same_caches() -> None:
    """Emptied before each, and then filled with what the chat template begins with."""
    _, runs, cooled, engines = await measured(0.1)
    fused, published = runs[0], runs[1]
    assert len(published.requests) > len(fused.requests)
    assert published.switching > fused.switching
    assert len(cooled) == len(runs) + 1
    for engine in engines:
        assert len(engine.prefilled) == len(cooled)
        assert len(set(map(tuple, engine.prefilled))) == 1
        text = (await engine.vocabulary()).decode(engine.prefilled[0])
        assert text == "<|user|>"
