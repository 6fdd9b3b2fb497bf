"""The router's own cost, over engines that cost nothing."""

from __future__ import annotations

import statistics
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_glimprouter.chat_models import ChatGlimpRouter
from langchain_glimprouter.engines.scripted import ScriptedEngine, ScriptedStep
from langchain_glimprouter.routing.options import Prompt, TurnOptions, TurnRequest
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.router import ROLES, Router

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEP_TOKENS = 20
_STEPS = 100
_EASY, _HARD = 0.1, 2.0  # nats


@dataclass(frozen=True, slots=True)
class RouterCost:
    """What the router costs, in microseconds; medians over repeats.

    Attributes:
        token: Per token through `Router.run`, the scripted engines' own work included.
        token_astream: Per token through `ChatGlimpRouter.astream`.
        step_short: Per step, one hand-off each, behind a context of 1,000 tokens.
        step_long: The same behind 32,000 tokens.
        growth: `step_long` over `step_short`, paired: median of the repeats.
    """

    token: float
    token_astream: float
    step_short: float
    step_long: float
    growth: float


async def router_cost(repeats: int = 9) -> RouterCost:
    """Measure the router's own cost."""
    mixed = _engines(hard_every=4)
    split = _engines(hard_every=2)
    await _run(mixed, 100)
    tokens, streamed, short, long = [], [], [], []
    for _ in range(repeats):
        tokens.append(await _run(mixed, 100) / (_STEPS * _STEP_TOKENS))
        streamed.append(await _astream(mixed) / (_STEPS * _STEP_TOKENS))
        short.append(await _run(split, 1_000) / _STEPS)
        long.append(await _run(split, 32_000) / _STEPS)
    growth = statistics.median(b / a for a, b in zip(short, long, strict=True))
    return RouterCost(
        token=1e6 * statistics.median(tokens),
        token_astream=1e6 * statistics.median(streamed),
        step_short=1e6 * statistics.median(short),
        step_long=1e6 * statistics.median(long),
        growth=growth,
    )


def _engines(hard_every: int) -> dict[str, ScriptedEngine]:
    def script(name: str) -> list[ScriptedStep]:
        return [
            ScriptedStep(
                " ".join(f"{name}{index}.{word}" for word in range(_STEP_TOKENS)) + "\n\n",
                _HARD if index % hard_every == 0 else _EASY,
            )
            for index in range(_STEPS)
        ]

    return {role: ScriptedEngine(script(role), "42", name=role) for role in ROLES}


async def _run(engines: dict[str, ScriptedEngine], context: int) -> float:
    vocabulary = await engines["small"].vocabulary()
    text = "<|user|>" + " word" * context + "<|end|><|assistant|><think>\n"
    prompt = Prompt(text, vocabulary.encode(text, special=True))
    options = TurnOptions(session_id=f"{id(prompt)}", loop_guard=True)
    request = TurnRequest(dict.fromkeys(ROLES, prompt), "opened", options)
    router = Router({role: engines[role] for role in ROLES})
    began = time.perf_counter()
    async with aclosing(router.run(request, GlimpRouter())) as events:
        async for _ in events:
            pass
    return time.perf_counter() - began


async def _astream(engines: dict[str, ScriptedEngine]) -> float:
    model = ChatGlimpRouter(small=engines["small"], large=engines["large"], thinking=True)
    began = time.perf_counter()
    async for _ in model.astream("question"):
        pass
    return time.perf_counter() - began


def spread(values: Sequence[float]) -> str:
    """Return median, minimum and maximum for a table."""
    return f"{statistics.median(values):.3f} [{min(values):.3f}, {max(values):.3f}]"
