"""What a turn is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_glimprouter.engines.base import Sampling
from langchain_glimprouter.routing.steps import BlankLines, Steps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.errors import Role

AnswerBy = Literal["large", "small", "route"]
"""Who writes the answer behind a thought; `route` lets the policy decide step by step."""

Opening = Literal["opened", "tag", "unknown", "none"]
"""How the prompt leaves the thought.

`opened`: behind an open `<think>` and its newline; `tag`: right behind `<think>`; `unknown`: the
model may open one itself; `none`: there is no thought, the steps are the answer's own.
"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One model's rendering of the conversation.

    Attributes:
        text: What its chat template made.
        token_ids: The same, encoded.
        aside: What the template puts before and behind a user's question that follows upon the
            model's unfinished text, up to where the model answers it: how a judge is asked.
            `None` where the template allows no such thing.
    """

    text: str
    token_ids: Sequence[int]
    aside: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """Limits and habits of a turn. Token counts are the writer's own tokens.

    Attributes:
        max_thinking_tokens: Budget of the thought; then `</think>` is forced.
        max_tokens: Budget of the answer.
        max_step_tokens: A step that grows longer is cut, and the next one is decided anew.
        sampling: How tokens are drawn, by both models.
        seed: Seed of the turn; each request derives its own from it and its position.
        stop: Strings that end the answer; they are not part of it.
        steps: Where steps end.
        answer_by: Who writes the answer behind a thought.
        think_tags: How the models mark a thought.
        loop_guard: Whether to end a thought that goes round in circles.
        session_id: Stable name of the conversation, for prefix affinity.
        constraint: Grammar of the answer, as `GenerationRequest.constraint`; one model writes it in
            one request, the thought before it stays free.
        unsplit: Markers such as `<tool_call>`: from one on, the rest of the answer is one step;
            the empty text makes one step of all of it.
    """

    max_thinking_tokens: int = 8192
    max_tokens: int = 2048
    max_step_tokens: int = 512
    sampling: Sampling = field(default_factory=Sampling)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    steps: Steps = field(default_factory=BlankLines)
    answer_by: AnswerBy = "large"
    think_tags: tuple[str, str] = ("<think>", "</think>")
    loop_guard: bool = True
    session_id: str | None = None
    constraint: Mapping[str, Any] | None = None
    unsplit: tuple[str, ...] = ()

    def answerer(self, wish: Role | None) -> AnswerBy:
        """Return who writes the answer.

        Args:
            wish: Whom the policy wants; `None` leaves it to `answer_by`.
        """
        answer_by = wish or self.answer_by
        # A grammar begins with a request, so that several models cannot share one.
        return "large" if answer_by == "route" and self.constraint is not None else answer_by


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """One call of the router.

    Attributes:
        prompts: The conversation as each needed model renders it.
        opening: How the prompts leave the thought.
        options: Limits and habits.
        problem: The user's last message, for reward models.
    """

    prompts: Mapping[Role, Prompt]
    opening: Opening = "none"
    options: TurnOptions = field(default_factory=TurnOptions)
    problem: str = ""
