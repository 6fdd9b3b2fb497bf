"""What a trace says in words, and in a terminal."""

from __future__ import annotations

import io
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from langchain_glimprouter import ChatGlimpRouter
from langchain_glimprouter.routing.entropy import Entropy
from langchain_glimprouter.routing.thresholds import Decision
from langchain_glimprouter.routing.trace import DraftTrace, RoutingTrace
from langchain_glimprouter.terminal import TurnPrinter, print_trace
from langchain_glimprouter.trace_words import decision_of, verdict, why
from unit_tests.models import router
from unit_tests.traces import drafted, played, trace

SIGNALS = ("step_entropy", "step_perplexity", "score", "reward", "overconfidence", "their own")


@pytest.mark.parametrize(
    ("draft", "said"),
    [
        ({"signal": "score", "value": 3.0, "threshold": 7.0}, "draft rated 3 < 7"),
        ({"signal": "score", "value": 7.0, "threshold": 7.0, "kept": 1}, "draft rated 7 ≥ 7"),
        ({"signal": "score", "value": 6.999, "threshold": 7.0}, "draft rated 6.999 < 7"),
        ({"signal": "score", "threshold": 7.0}, "draft rejected: no room to ask for a score"),
        ({"signal": "reward", "value": 0.5, "threshold": 0.7}, "draft rewarded 0.50 < 0.70"),
        (
            {"signal": "step_entropy", "value": 0.42, "threshold": 1.0, "kept": 1},
            "draft kept: H_step 0.42 ≤ 1.00",
        ),
        (
            {"signal": "step_entropy", "value": 2.0, "kept": 1},
            "draft kept: H_step 2.00 ≤ ∞",
        ),
        (
            {"signal": "step_perplexity", "value": 1.5, "threshold": 1.4},
            "draft rejected: PPL_step 1.50 > 1.40",
        ),
        (
            {"signal": "overconfidence", "value": 0.9, "threshold": 0.85},
            "draft rejected: sure of 90 % of its tokens > 85 %",
        ),
        ({"signal": "selection", "value": 2.0, "drafts": 3, "kept": 1}, "draft 2 of 3 chosen"),
        ({"signal": "selection", "value": 0.0, "drafts": 3}, "none of 3 drafts chosen"),
        ({"signal": "selection", "value": 0.0}, "draft refused"),
        ({"signal": "empty"}, "nothing drafted"),
        ({"signal": "empty", "drafts": 3}, "nothing in 3 drafts"),
        ({"signal": "their own", "value": 1.0, "threshold": 2.0, "kept": 1}, "kept: their own 1"),
    ],
)
def test_what_was_made_of_a_draft(draft: dict[str, Any], said: str) -> None:
    kept = bool(draft.pop("kept", 0))
    assert said in verdict(DraftTrace(**draft, accepted=kept))


@given(
    signal=st.sampled_from(SIGNALS),
    value=st.floats(0.0, 10.0),
    threshold=st.one_of(st.floats(0.0, 10.0), st.just(math.inf)),
    digits=st.integers(0, 4),
)
def test_the_sign_agrees_with_the_numbers(
    signal: str, value: float, threshold: float, digits: int
) -> None:
    least = signal in ("score", "reward")
    draft = DraftTrace(signal=signal, value=value, threshold=threshold, accepted=True)
    said = re.search(r"([\d.]+)[^≥<>≤]* ([≥<>≤]) ([\d.]+|∞)", verdict(draft, digits))
    assert said is not None
    over = {True: "≥", False: "<"} if least else {True: ">", False: "≤"}
    assert said[2] == over[value >= threshold if least else value > threshold]
    if abs(value - threshold) > 1e-5:
        assert said[1] != said[3]


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        (Decision("small", "entropy", Entropy(0.5, 0.4, 0.6, 1.0), 1.0), "H 0.50 ≤ τ 1.00"),
        (Decision("large", "entropy", Entropy(1.5, 0.4, 2.6, 1.0), 1.0), "H 1.50 > τ 1.00"),
        (Decision("small", "entropy", Entropy(1.5, 0.4, 2.6, 1.0), math.inf), "H 1.50 ≤ τ ∞"),
        (
            Decision("small", "steered", Entropy(1.5, 0.4, 2.6, 1.0), 1.0),
            "steered by a person; H 1.50 > τ 1.00",
        ),
        (Decision("large", "first_steps"), "first_n_steps_large"),
        (Decision("large", "hesitation"), "the steps before hesitate"),
        (Decision("large", "premature_end"), "the draft before would have ended the thought"),
        (Decision("large", "always"), ""),
        (Decision("large", "a reason of their own"), "a reason of their own"),
        (
            Decision(
                "small",
                "score",
                Entropy(1.5, 0.4, 2.6, 1.0),
                draft=DraftTrace(signal="score", value=9, threshold=7, accepted=True),
            ),
            "draft rated 9 ≥ 7",
        ),
        (
            Decision("large", "steered", draft=DraftTrace(signal="empty", accepted=False)),
            "steered by a person; nothing drafted",
        ),
    ],
)
def test_why(decision: Decision, said: str) -> None:
    assert why(decision) == said


def shown(turn: RoutingTrace, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_trace(turn, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_what_became_of_drafts() -> None:
    turn = played("specreason(7)", 12)
    text = shown(turn, 80)
    for step in turn.steps:
        if turn.step_text(step).strip():
            label = f" {step.writer}  {why(decision_of(step))}".rstrip()
            assert label in text
    header = next(line for line in text.splitlines() if line.startswith("model"))
    assert header.split()[:5] == ["model", "steps", "tokens", "probes", "rejected"]
    assert header.split()[-1] == "seconds"
    small = next(line for line in text.splitlines() if line.startswith("small:"))
    assert int(small.split()[-4]) == turn.usage.small.rejected > 0
    kept = sum(step.draft.accepted for step in turn.steps if step.draft)
    assert f"Drafts kept at {kept} of " in text


def test_without_drafts_there_is_no_column_of_them() -> None:
    text = shown(trace([0.1, 2.0]))
    assert "rejected" not in text
    assert "Drafts" not in text
    kept = drafted(DraftTrace(signal="score", value=9.0, threshold=7.0, accepted=True))
    header = next(line for line in shown(kept).splitlines() if line.startswith("model"))
    assert "rejected" not in header
    assert "0 tokens rejected" in shown(kept)


@pytest.mark.parametrize("policy", ["glimprouter", "specreason(7)", "step entropy", "always large"])
def test_live_and_recorded_look_alike(policy: str) -> None:
    model: ChatGlimpRouter = router(policy=policy)
    console = Console(file=io.StringIO(), width=100)
    printer = TurnPrinter(console)
    turn = None
    for event in model.events("What is 3 + 4?"):
        printer.push(event)
        turn = getattr(event, "trace", None)
    assert isinstance(turn, RoutingTrace)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == shown(turn)
