"""Fields and per-call keywords of a chat model, turned into what the router takes."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, get_args

from langchain_glimprouter.engines.base import Sampling
from langchain_glimprouter.engines.model_files import read_chat_template
from langchain_glimprouter.errors import ConfigurationError
from langchain_glimprouter.messages.answer import AnswerFormat
from langchain_glimprouter.messages.tool_use import settle_tools
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.entropy import Estimator
from langchain_glimprouter.routing.options import AnswerBy, TurnOptions
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.named import (
    NAMES,
    as_threshold,
    named_policy,
    with_threshold,
)
from langchain_glimprouter.routing.policies.single import Always
from langchain_glimprouter.routing.policies.step_signals import StepEntropy
from langchain_glimprouter.routing.policies.two_sided import TwoSided
from langchain_glimprouter.routing.steps import as_steps
from langchain_glimprouter.routing.thresholds import Fixed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_glimprouter.errors import Role

PER_CALL = frozenset(
    {
        "answer_by",
        "chat_template",
        "chat_template_kwargs",
        "estimator",
        "first_n_steps_large",
        "loop_guard",
        "max_step_tokens",
        "max_thinking_tokens",
        "max_tokens",
        "min_p",
        "model",
        "parallel_tool_calls",
        "policy",
        "reasoning_parser",
        "repetition_penalty",
        "response_format",
        "seed",
        "session_id",
        "steps",
        "strict",
        "temperature",
        "thinking",
        "threshold",
        "timeout",
        "tool_choice",
        "tool_parser",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
    }
)
"""Options that a single call may override, through keywords or `bind`."""

_LANGCHAIN = frozenset({"stream", "stream_usage", "ls_structured_output_format", "output_version"})
"""Keywords that LangChain sends along for itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the chat model, settled.

    Attributes:
        policy: Who writes what.
        options: Limits and habits of the turn.
        thinking: Whether to think; `None` leaves it to the models.
        template_kwargs: Further variables of the chat templates.
        timeout: Seconds for the whole turn, or `None`.
        pinned: The one model of the call, if it is pinned.
        answer: The tools of the call, and how its answer is read.
        tool_parser: vLLM's parser of tool calls; `None` asks the chat template.
        reasoning_parser: vLLM's parser of thoughts; `None` asks the chat template.
        tags_given: Whether the user chose `options.think_tags`.
    """

    policy: Policy
    options: TurnOptions
    thinking: bool | None
    template_kwargs: Mapping[str, Any]
    timeout: float | None
    pinned: Role | None
    answer: AnswerFormat = field(default_factory=AnswerFormat)
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    tags_given: bool = False


def settle_call(
    fields: Mapping[str, Any],
    given: frozenset[str],
    stop: Sequence[str] | None,
    keywords: Mapping[str, Any],
) -> Call:
    """Merge a chat model's fields with a call's keywords.

    Args:
        fields: The chat model's options by name.
        given: Names of the fields that the user set.
        stop: Stop strings of the call; they take the place of the field's.
        keywords: Further keywords of the call.

    Raises:
        ConfigurationError: If something cannot work.
    """
    for name in keywords:
        if name == "n":
            check_single(keywords["n"])
        elif name not in PER_CALL and name not in _LANGCHAIN:
            raise unknown("option", name, PER_CALL | {"stop"})
    value = {**fields, **keywords}
    pinned = _pinned(value.get("model"))
    steps = as_steps(value["steps"])
    options = TurnOptions(
        max_thinking_tokens=_at_least(value, "max_thinking_tokens", 1),
        max_tokens=_at_least(value, "max_tokens", 1),
        max_step_tokens=_at_least(value, "max_step_tokens", 1),
        sampling=Sampling(
            temperature=_within(value, "temperature", 0.0, math.inf),
            top_p=_within(value, "top_p", 0.0, 1.0, open_low=True),
            top_k=_whole(value, "top_k", -1),
            min_p=_within(value, "min_p", 0.0, 1.0),
            repetition_penalty=_within(value, "repetition_penalty", 0.0, math.inf, open_low=True),
        ),
        seed=_whole(value, "seed", -sys.maxsize),
        stop=_stop(stop if stop is not None else value.get("stop"), steps.delimiters),
        steps=steps,
        answer_by=pinned or _one_of(value, "answer_by", AnswerBy),
        think_tags=value["think_tags"],
        loop_guard=value["loop_guard"],
        session_id=value.get("session_id"),
    )
    return Call(
        policy=Always(pinned) if pinned else settle_policy(value, given, frozenset(keywords)),
        options=options,
        thinking=value["thinking"],
        template_kwargs=_template_kwargs(value),
        timeout=_within(value, "timeout", 0.0, math.inf, open_low=True),
        pinned=pinned,
        answer=AnswerFormat(
            settle_tools(
                value.get("tools"),
                value.get("tool_choice"),
                strict=value.get("strict"),
                parallel=value.get("parallel_tool_calls"),
                response_format=value.get("response_format"),
            )
        ),
        tool_parser=value["tool_parser"],
        reasoning_parser=value["reasoning_parser"],
        tags_given="think_tags" in given,
    )


def settle_policy(
    value: Mapping[str, Any], given: frozenset[str], keywords: frozenset[str] = frozenset()
) -> Policy:
    """Return the policy that the options ask for."""
    policy: object = value["policy"]
    if isinstance(policy, str):
        threshold = as_threshold(value["threshold"])
        probing = GlimpRouter(
            threshold,
            _at_least(value, "first_n_steps_large", 0),
            _at_least(value, "top_logprobs", 1),
            _one_of(value, "estimator", Estimator),
        )
        policy = named_policy(policy, probing, seed=value["seed"])
        if "threshold" in keywords and not isinstance(policy, GlimpRouter):
            return with_threshold(policy, threshold)
    elif isinstance(policy, type) or not isinstance(policy, Policy):
        msg = f"policy={policy!r} is no policy: give one of {', '.join(NAMES)}, or a policy object"
        raise ConfigurationError(msg)
    elif "threshold" in keywords:
        policy = with_threshold(policy, as_threshold(value["threshold"]))
    elif "threshold" in given:
        msg = "threshold and a policy object are both given: set the threshold in the policy itself"
        raise ConfigurationError(msg)
    _warn_of_idle_threshold(policy)
    return policy


def check_single(n: object) -> None:
    """Refuse more than one answer per call."""
    if n not in (None, 1):
        msg = f"n={n!r}: a routed turn gives one answer; repeat the prompt in batch() instead"
        raise ConfigurationError(msg)


def _warn_of_idle_threshold(policy: Policy) -> None:
    if not isinstance(policy, GlimpRouter | StepEntropy | TwoSided):
        return
    if policy.estimator != "renormalized":
        return
    ceiling = math.log(policy.top_logprobs)
    if isinstance(policy.threshold, Fixed) and ceiling <= policy.threshold.tau < math.inf:
        warnings.warn(
            f"threshold={policy.threshold.tau:g} can never call the large model: the entropy of "
            f"{policy.top_logprobs} renormalized log-probabilities is at most "
            f"ln {policy.top_logprobs} = {ceiling:.2f} nats; lower the threshold or set "
            f"estimator='upper'",
            UserWarning,
            stacklevel=2,
        )


def _one_of(value: Mapping[str, Any], name: str, literal: Any) -> Any:
    """Return an option that is one of a `Literal`'s names."""
    if value[name] not in get_args(literal):
        raise unknown(name, str(value[name]), get_args(literal))
    return value[name]


def _template_kwargs(value: Mapping[str, Any]) -> dict[str, Any]:
    given = value["chat_template_kwargs"]
    if not isinstance(given, dict | None):
        msg = f"chat_template_kwargs={given!r} cannot work: give a dictionary of variables"
        raise ConfigurationError(msg)
    kwargs = dict(given or {})
    if (template := read_chat_template(value["chat_template"])) is not None:
        kwargs["chat_template"] = template
    return kwargs


def _pinned(model: object) -> Role | None:
    if model is None:
        return None
    if model == "small" or model == "large":  # noqa: PLR1714 - mypy narrows this
        return model
    msg = f"model={model!r} cannot be called: 'small' or 'large' pins one engine of the pair"
    raise ConfigurationError(msg)


def _stop(stop: Sequence[str] | str | None, delimiters: Sequence[str]) -> tuple[str, ...]:
    texts = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if not all(text and isinstance(text, str) for text in texts):
        msg = f"stop={stop!r} holds what is no text: give non-empty strings"
        raise ConfigurationError(msg)
    if clash := set(texts) & set(delimiters):
        msg = (
            f"stop={clash.pop()!r} is also the delimiter of steps, so the answer would end with "
            f"its first step: choose another stop string, or another delimiter with steps="
        )
        raise ConfigurationError(msg)
    return texts


def _at_least(value: Mapping[str, Any], name: str, least: int) -> int:
    number = value[name]
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        msg = f"{name}={number!r} cannot work: give a whole number, {least} or more"
        raise ConfigurationError(msg)
    return number


def _whole(value: Mapping[str, Any], name: str, least: int) -> int | None:
    return None if value[name] is None else _at_least(value, name, least)


def _within(
    value: Mapping[str, Any], name: str, low: float, high: float, *, open_low: bool = False
) -> float | None:
    number = value.get(name)
    if number is None:
        return None
    fits = isinstance(number, int | float) and (low < number or (low == number and not open_low))
    if not fits or not number <= high:
        kind = "above" if open_low else "at least"
        most = "" if high == math.inf else f" and at most {high:g}"
        msg = f"{name}={number!r} cannot work: give a number {kind} {low:g}{most}"
        raise ConfigurationError(msg)
    return float(number)
