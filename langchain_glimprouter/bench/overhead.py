"""What routing costs beside the tokens themselves: wall time over ideal time.

Ideal = Σ over models (tokens it wrote × its own decode time per token, measured alone in the same
run, before and after each turn). What lies above 1 is the prompt, which both models compute,
what requests behind hand-offs compute, dropped probes, and the router.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.decode_speed import QUIET_SECONDS, decode_seconds
from langchain_glimprouter.bench.engines import common_beginning
from langchain_glimprouter.bench.timed_engine import RequestTime, TimedEngine
from langchain_glimprouter.messages.prompt import render_prompts
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.routing.options import TurnRequest
from langchain_glimprouter.routing.router import ROLES, Router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from langchain_glimprouter.bench.questions import Question
    from langchain_glimprouter.engines.base import Engine
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.options import TurnOptions
    from langchain_glimprouter.routing.policies.base import Policy
    from langchain_glimprouter.routing.trace import RoutingTrace

_CALIBRATION = {"small": 48, "large": 32}  # tokens; a machine's speed changes within seconds


@dataclass(slots=True)
class Run:
    """One turn of one policy.

    Attributes:
        question: Number of the question.
        policy: Name of the policy.
        engines: `in-process` or `servers`.
        wall: Seconds of the turn.
        ideal: Seconds that its tokens alone take.
        prompt: Seconds that both models' first requests took to their first token, beyond the
            decode time of that token.
        switching: The same of all further requests: what each computes of its context.
        requests: Every request.
        trace: Its record, without text.
    """

    question: int
    policy: str
    engines: str
    wall: float
    ideal: float
    prompt: float
    switching: float
    requests: list[RequestTime]
    trace: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Wall over ideal."""
        return self.wall / self.ideal

    @property
    def routing_ratio(self) -> float:
        """Wall over ideal, but for the prompt: that is computed without any routing, too."""
        return (self.wall - self.prompt) / self.ideal

    @property
    def rest(self) -> float:
        """Seconds beyond all this: dropped probes, the router, and a model's speed that changed."""
        return self.wall - self.ideal - self.prompt - self.switching


@dataclass(slots=True)
class OverheadBench:
    """Runs policies in turn on the same questions and engines.

    Attributes:
        engines: By role.
        label: `in-process` or `servers`.
        options: Of every turn.
        thinking: What the chat templates are told of it.
        cool: Empties the prefix caches. Then what the chat template begins with is computed again,
            so that each turn finds its question new; without it, the policy that goes second does
            not.
        runs: Results so far.
        decode: Decode times per model, in seconds a token, in the order they were measured.
    """

    engines: Mapping[Role, Engine]
    label: str
    options: TurnOptions
    thinking: bool | None = None
    cool: Callable[[], Awaitable[object]] | None = None
    runs: list[Run] = field(default_factory=list)
    decode: dict[Role, list[float]] = field(default_factory=lambda: {"small": [], "large": []})

    async def run(
        self,
        questions: Sequence[Question],
        policies: Sequence[Policy],
        report: Callable[[Run], None] = lambda _: None,
    ) -> list[Run]:
        """Measure; one warm-up turn of each policy comes first and does not count.

        Policies take turns going first, and decode times are taken before and after each turn, so
        that drift of the machine falls on all alike.
        """
        log: list[RequestTime] = []
        watched: dict[Role, Engine] = {
            role: TimedEngine(engine, role, log) for role, engine in self.engines.items()
        }
        router = Router(watched)
        for policy in policies:
            await self._turn(router, questions[0], policy)
        one, two = [await self._request(router, text) for text in (questions[0].prompt, "?")]
        shared = {
            role: common_beginning([one.prompts[role].token_ids, two.prompts[role].token_ids])
            for role in ROLES
        }
        context = {role: one.prompts[role].token_ids for role in ROLES}
        await self._cool(shared)
        before = await self._calibrate(context)
        for number, question in enumerate(questions):
            for policy in policies if number % 2 == 0 else reversed(policies):
                await self._cool(shared)
                log.clear()
                wall, trace = await self._turn(router, question, policy)
                times = log[:]
                after = await self._calibrate(context)
                speed = {role: (before[role] + after[role]) / 2 for role in ROLES}
                before = after
                ideal = sum(trace.usage.of(role).decode * speed[role] for role in ROLES)
                record = trace.model_dump(mode="json", exclude={"text"})
                prompt, switching = _waiting(times, speed)
                run = Run(
                    number, policy.name, self.label, wall, ideal, prompt, switching, times, record
                )
                self.runs.append(run)
                report(run)
        return self.runs

    async def _cool(self, shared: Mapping[Role, Sequence[int]]) -> None:
        """Have every turn find the same: what the chat template begins with, and nothing else."""
        if self.cool is None:
            return
        await self.cool()
        for role in ROLES:
            if shared[role]:
                await self.engines[role].prefill(shared[role])

    async def _calibrate(self, context: Mapping[Role, Sequence[int]]) -> dict[Role, float]:
        speed: dict[Role, float] = {}
        for role in ROLES:
            seconds = await decode_seconds(self.engines[role], context[role], _CALIBRATION[role])
            self.decode[role].append(seconds)
            speed[role] = seconds
        return speed

    async def _request(self, router: Router, text: str) -> TurnRequest:
        vocabularies = await router.vocabularies(ROLES)
        prompts, opening, _ = render_prompts(
            vocabularies,
            [{"role": "user", "content": text}],
            thinking=self.thinking,
            tags=self.options.think_tags,
            template_kwargs={},
        )
        return TurnRequest(prompts, opening, self.options)

    async def _turn(
        self, router: Router, question: Question, policy: Policy
    ) -> tuple[float, RoutingTrace]:
        await asyncio.sleep(QUIET_SECONDS)
        began = time.perf_counter()
        request = await self._request(router, question.prompt)
        trace: RoutingTrace | None = None
        async with aclosing(router.run(request, policy)) as events:
            async for event in events:
                if isinstance(event, TurnFinished):
                    trace = event.trace
        assert trace is not None
        return time.perf_counter() - began, trace


def _waiting(requests: Sequence[RequestTime], speed: Mapping[Role, float]) -> tuple[float, float]:
    """Return what was waited for first tokens: of each model's first request, and of the rest."""
    prompt = switching = 0.0
    seen: set[Role] = set()
    for request in requests:
        waited = request.first - speed[request.role] if request.tokens else 0.0
        if request.role in seen:
            switching += waited
        else:
            seen.add(request.role)
            prompt += waited
    return prompt, switching


def as_json(benches: Sequence[OverheadBench]) -> dict[str, Any]:
    """Return results as plain data."""
    runs = [run for bench in benches for run in bench.runs]
    return {
        "runs": [
            asdict(run) | {"ratio": run.ratio, "routing_ratio": run.routing_ratio} for run in runs
        ],
        "decode_seconds": {bench.label: bench.decode for bench in benches},
    }
