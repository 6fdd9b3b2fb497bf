"""The steps of a turn: the one being written, and the finished ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from langchain_glimprouter.routing.trace import StepTrace

if TYPE_CHECKING:
    from langchain_glimprouter.routing.thresholds import Decision

_STEPS = TypeAdapter(list[StepTrace])


class OpenStep:
    """The step being written."""

    __slots__ = ("decision", "index", "parts", "start", "tokens")

    def __init__(self, index: int, decision: Decision, start: int) -> None:
        self.index = index
        self.decision = decision
        self.start = start
        self.tokens = 0
        self.parts: list[str] = []


class StepLog:
    """Keeps steps and their texts.

    Attributes:
        earlier: Steps of before the turn was saved, as plain data.
        fresh: Steps since then.
        texts: Texts of all of them.
        length: Length of all texts, in characters.
    """

    __slots__ = ("earlier", "fresh", "length", "texts")

    def __init__(self) -> None:
        self.earlier: list[dict[str, Any]] = []
        self.fresh: list[StepTrace] = []
        self.texts: list[str] = []
        self.length = 0

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def steps(self) -> list[StepTrace]:
        """All steps."""
        if self.earlier:  # read once somebody asks: a thought may be saved and resumed often
            self.fresh[:0] = _STEPS.validate_python(self.earlier)
            self.earlier = []
        return self.fresh

    @property
    def text(self) -> str:
        """The text of all steps."""
        return "".join(self.texts)

    def add(self, step: StepTrace, text: str) -> None:
        """Keep a step."""
        self.fresh.append(step)
        self.texts.append(text)

    def resume(self, steps: list[dict[str, Any]], text: str) -> None:
        """Go on behind the steps of a turn that was saved."""
        self.earlier = steps
        self.texts = [text[step["start"] : step["end"]] for step in steps]
        self.length = len(text)

    def saved(self) -> list[dict[str, Any]]:
        """Return all steps as plain data."""
        return [*self.earlier, *(step.model_dump(mode="json") for step in self.fresh)]

    def since(self, count: int) -> list[StepTrace]:
        """Return the steps behind the first `count`, of which none was fresh."""
        return self.fresh[count - len(self.earlier) :]
