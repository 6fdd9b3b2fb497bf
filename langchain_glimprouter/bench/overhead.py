"""What routing costs beside the tokens themselves: wall time over ideal time.

Ideal = Σ over models (tokens it wrote × its own decode time per token, measured alone in the same
run, before and after each question). What lies above 1 is prefill at hand-offs, dropped probes,
requests, and the router.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.bench.decode_speed import QUIET_SECONDS, decode_seconds
from langchain_glimprouter.messages.prompt import render_prompts
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.routing.options import TurnRequest
from langchain_glimprouter.routing.router import ROLES, Router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_glimprouter.bench.questions import Question
    from langchain_glimprouter.engines.base import Engine
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.options import TurnOptions
    from langchain_glimprouter.routing.policies.base import Policy
    from langchain_glimprouter.routing.trace import RoutingTrace

_CALIBRATION = {"small": 40, "large": 24}


@dataclass(slots=True)
class Run:
    """One turn of one policy.

    Attributes:
        question: Number of the question.
        policy: Name of the policy.
        engines: `in-process` or `servers`.
        wall: Seconds of the turn.
        ideal: Seconds that its tokens alone take.
        trace: Its record, without text.
    """

    question: int
    policy: str
    engines: str
    wall: float
    ideal: float
    trace: dict[str, Any]

    @property
    def ratio(self) -> float:
        """Wall over ideal."""
        return self.wall / self.ideal


@dataclass(slots=True)
class OverheadBench:
    """Runs policies in turn on the same questions and engines.

    Attributes:
        engines: By role.
        label: `in-process` or `servers`.
        options: Of every turn.
        template_kwargs: Further variables of the chat templates.
        runs: Results so far.
        decode: Decode times per model, in seconds a token, in the order they were measured.
    """

    engines: Mapping[Role, Engine]
    label: str
    options: TurnOptions
    thinking: bool | None = None
    runs: list[Run] = field(default_factory=list)
    decode: dict[Role, list[float]] = field(default_factory=lambda: {"small": [], "large": []})

    async def run(
        self,
        questions: Sequence[Question],
        policies: Sequence[Policy],
        report: Callable[[Run], None] = lambda _: None,
    ) -> list[Run]:
        """Measure; one warm-up turn comes first and does not count.

        Policies take turns going first, and decode times are taken before and after each question,
        so that drift of the machine falls on all alike.
        """
        router = Router(self.engines)
        await self._turn(router, questions[0], policies[0])
        context = await self._context(router, questions[0])
        before = await self._calibrate(context)
        for number, question in enumerate(questions):
            order = list(policies) if number % 2 == 0 else list(reversed(policies))
            results = [(policy, *await self._turn(router, question, policy)) for policy in order]
            after = await self._calibrate(context)
            speed = {role: (before[role] + after[role]) / 2 for role in ROLES}
            before = after
            for policy, wall, trace in results:
                ideal = sum(trace.usage.of(role).decode * speed[role] for role in ROLES)
                record = trace.model_dump(mode="json", exclude={"text"})
                run = Run(number, policy.name, self.label, wall, ideal, record)
                self.runs.append(run)
                report(run)
        return self.runs

    async def _context(self, router: Router, question: Question) -> dict[Role, list[int]]:
        """Return contexts of a typical length: a prompt and a thought of the same question."""
        request = await self._request(router, question)
        return {role: list(request.prompts[role].token_ids) * 2 for role in ROLES}

    async def _calibrate(self, context: dict[Role, list[int]]) -> dict[Role, float]:
        speed: dict[Role, float] = {}
        for role in ROLES:
            seconds = await decode_seconds(self.engines[role], context[role], _CALIBRATION[role])
            self.decode[role].append(seconds)
            speed[role] = seconds
        return speed

    async def _request(self, router: Router, question: Question) -> TurnRequest:
        vocabularies = await router.vocabularies(ROLES)
        prompts, opening, _ = render_prompts(
            vocabularies,
            [{"role": "user", "content": question.prompt}],
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
        request = await self._request(router, question)
        trace: RoutingTrace | None = None
        async with aclosing(router.run(request, policy)) as events:
            async for event in events:
                if isinstance(event, TurnFinished):
                    trace = event.trace
        assert trace is not None
        return time.perf_counter() - began, trace


def as_json(benches: Sequence[OverheadBench]) -> dict[str, Any]:
    """Return results as plain data."""
    return {
        "runs": [{**asdict(run), "ratio": run.ratio} for bench in benches for run in bench.runs],
        "decode_seconds": {bench.label: bench.decode for bench in benches},
    }
