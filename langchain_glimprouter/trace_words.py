"""What a trace says, in words: why a model wrote a step, what became of drafts, how it ended."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_glimprouter.routing.thresholds import Decision

if TYPE_CHECKING:
    from langchain_glimprouter.routing.trace import DraftTrace, RoutingTrace, StepTrace

_REASONS = {
    "first_steps": "first_n_steps_large",
    "always": "",  # the policy's name says it already
    "random": "drawn at random",
    "answer": "the answer, not routed",
    "steered": "steered by a person",
    "hesitation": "the steps before hesitate",
    "premature_end": "the draft before would have ended the thought",
}
_MEASURES = {"step_entropy": "H_step", "step_perplexity": "PPL_step"}
_STEP_ENDS = {
    "length": "cut at max_step_tokens",
    "stop": "ended at a stop string",
    "budget": "cut by the budget",
    "interrupted": "interrupted",
    "stripped": "its end of the thought was left out",
}
_TURN_ENDS = {
    "max_tokens": "the answer's token budget ran out (max_tokens)",
    "context_window": "the context window is full",
    "loop": "the text went round in circles",
    "error": "an engine failed",
    "cancelled": "it was cancelled",
    "steered": "somebody stopped it",
}
_FORCED = {
    "max_thinking_tokens": "the thinking budget ran out",
    "context_window": "the context window is full",
    "loop": "the thought went round in circles",
    "end_of_text": "a model ended its text inside the thought",
    "steered": "somebody asked for the answer",
}
_MOST_DIGITS = 6


def decision_of(step: StepTrace) -> Decision:
    """Return the decision that a recorded step tells of."""
    probe = step.probe
    return Decision(
        step.writer,
        step.reason,
        probe.measured() if probe is not None else None,
        probe.threshold if probe is not None else None,
        tuple(probe.candidates) if probe is not None else (),
        step.draft,
    )


def why(decision: Decision, digits: int = 2) -> str:
    """Return why a step's writer was chosen; empty where the policy's name says it.

    A first token's entropy is told where it decided: beside a draft it did not.

    Args:
        decision: The decision, live or recorded.
        digits: Decimals of entropies and other measures.
    """
    reason, draft, entropy = decision.reason, decision.draft, decision.entropy
    parts = []
    if reason != "entropy" and (draft is None or reason != draft.signal):
        parts.append(_REASONS.get(reason, reason))
    if draft is not None:
        parts.append(verdict(draft, digits))
    elif entropy is not None:
        tau = math.inf if decision.threshold is None else decision.threshold
        found, limit = _numbers(entropy.estimate, tau, digits)
        parts.append(f"H {found} {'>' if entropy.estimate > tau else '≤'} τ {limit}")
    return "; ".join(part for part in parts if part)


def verdict(draft: DraftTrace, digits: int = 2) -> str:
    """Return what was made of a draft, and by which number.

    Args:
        draft: The draft, or several of one step.
        digits: Decimals of entropies and other measures.
    """
    signal, value, count = draft.signal, draft.value, draft.drafts
    kept = "draft kept" if draft.accepted else "draft rejected"
    if signal == "empty":
        return "nothing drafted" if count == 1 else f"nothing in {count} drafts"
    if signal == "selection":
        if draft.accepted and value is not None:
            return f"draft {value:.0f} of {count} chosen"
        return f"none of {count} drafts chosen" if count > 1 else "draft refused"
    if value is None:
        asked = {"score": ": no room to ask for a score", "reward": ": no room to ask for a reward"}
        return kept + asked.get(signal, "")
    if signal in ("score", "reward"):
        least = -math.inf if draft.threshold is None else draft.threshold
        found, limit = _numbers(value, least, 2, trim=signal == "score")
        word = "rated" if signal == "score" else "rewarded"
        return f"draft {word} {found} {'≥' if value >= least else '<'} {limit}"
    most = math.inf if draft.threshold is None else draft.threshold
    sign = ">" if value > most else "≤"
    if signal == "overconfidence":
        found, limit = _numbers(100 * value, 100 * most, 0)
        return f"{kept}: sure of {found} % of its tokens {sign} {limit} %"
    found, limit = _numbers(value, most, digits)
    return f"{kept}: {_MEASURES.get(signal, signal)} {found} {sign} {limit}"


def drafts_note(trace: RoutingTrace) -> str:
    """Return in a sentence what drafting came to; empty where no policy drafted."""
    drafts = [step.draft for step in trace.steps if step.draft is not None]
    if not drafts:
        return ""
    kept = sum(draft.accepted for draft in drafts)
    rejected = sum(step.tokens.rejected for step in trace.steps)
    drafting = duration(sum(draft.seconds for draft in drafts))
    judging = sum(draft.judge_seconds for draft in drafts)
    note = f"Drafts kept at {kept} of {counted(len(drafts), 'step')}; "
    note += f"{counted(rejected, 'token')} rejected; {drafting} drafting"
    return f"{note}, {duration(judging)} judging." if judging else f"{note}."


def step_end_note(step: StepTrace) -> str:
    """Return how a step ended where that is unusual; else an empty string."""
    return _STEP_ENDS.get(step.ended_by, "")


def closing_note(trace: RoutingTrace) -> str:
    """Return in sentences where a turn did not end by itself; else an empty string."""
    notes = []
    if trace.forced_close and trace.thought_end in _FORCED:
        notes.append(f"The thought was closed by the router: {_FORCED[trace.thought_end]}.")
    if trace.stop_reason in _TURN_ENDS:
        notes.append(f"The turn ended because {_TURN_ENDS[trace.stop_reason]}.")
    return " ".join(notes)


def begins(trace: RoutingTrace, width: int) -> str:
    """Return how a turn's text begins, in one line of at most so many characters."""
    line = " ".join(trace.text[: 4 * width].split())
    return line if len(line) <= width else f"{line[: width - 1]}…"


def counted(number: int, noun: str) -> str:
    """Return a number of things."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in a unit that suits it."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"


def _numbers(value: float, limit: float, digits: int, *, trim: bool = False) -> tuple[str, str]:
    """Write two numbers with as many decimals as it takes to tell them apart."""
    while True:
        written = [_number(one, digits, trim=trim) for one in (value, limit)]
        if written[0] != written[1] or value == limit or digits >= _MOST_DIGITS:
            return written[0], written[1]
        digits += 1


def _number(value: float, digits: int, *, trim: bool) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if trim and "." in text else text
