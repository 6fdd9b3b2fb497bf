"""What a user of the chat model can set, and how it is checked."""

from __future__ import annotations

import os
from typing import Any, Self

from langchain_core.language_models.chat_models import BaseChatModel
from pydantic import (
    AliasChoices,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    SkipValidation,
    ValidationError,
    model_validator,
)

from langchain_glimprouter._version import __version__
from langchain_glimprouter.engines.base import MAX_TOP_LOGPROBS, Engine
from langchain_glimprouter.engines.resolve import resolve_engine
from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.names import unknown
from langchain_glimprouter.routing.budget import Budget
from langchain_glimprouter.routing.calibrated import Calibrated
from langchain_glimprouter.routing.entropy import Estimator
from langchain_glimprouter.routing.options import AnswerBy
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.router import ROLES, Router
from langchain_glimprouter.routing.steps import BlankLines, StepRule, rule_name
from langchain_glimprouter.routing.thresholds import Threshold
from langchain_glimprouter.settings import Call, check_single, settle_call

OUTPUT = ("include_trace", "output_version", "stream_usage")
_NOT_SENT = frozenset({"small", "large", "api_key", "max_retries"})


class ChatOptions(BaseChatModel):
    """The options of `ChatGlimpRouter`, and the router they make."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", populate_by_name=True, protected_namespaces=()
    )

    small: SkipValidation[Engine | str]
    """The small engine: an engine object, a model's id or path (in-process), or a server's URL."""

    large: SkipValidation[Engine | str]
    """The large engine, likewise. The same vocabulary as the small one's is faster, not needed."""

    threshold: SkipValidation[float | str | os.PathLike[str] | Threshold] = 1.0
    """τ in nats: a step whose first token's entropy lies above goes to the large model.

    Also a threshold object (`TargetRate`, `Budget`), or the file of a calibration. No value is
    portable between pairs of models; calibrate it.
    """

    policy: SkipValidation[str | Policy] = "glimprouter"
    """Who writes the next step: `glimprouter`, `always small`, `always large`, `random(rate)`,
    `reference`, or a policy object."""

    model: str | None = None
    """`small` or `large` pins one engine for thought and answer."""

    first_n_steps_large: int = 0
    """So many steps go to the large model unprobed."""

    estimator: Estimator = "renormalized"
    """Which number stands for the entropy; the published thresholds are for `renormalized`."""

    top_logprobs: int = MAX_TOP_LOGPROBS
    """Log-probabilities of a probe (k)."""

    steps: SkipValidation[StepRule] = Field(default_factory=BlankLines)
    """Where steps end: by default at a blank line.

    A name (`blank line`, `newline`, `sentence`, `cue words`; `newline(8)` merges steps of fewer
    than 8 tokens with the next), a number (the tokens of every step), a function that is given a
    step's text so far behind each token and tells whether the step ends there, or a rule.
    """

    tool_parser: str | None = None
    """vLLM's parser for the models' tool calls, such as `hermes`; `None` asks the chat template."""

    reasoning_parser: str | None = None
    """vLLM's parser for the models' thoughts, such as `deepseek_r1`, in place of `think_tags`."""

    thinking: bool | None = None
    """Whether to think: `True` opens a thought, `False` closes it, `None` asks the templates."""

    think_tags: tuple[str, str] = ("<think>", "</think>")
    """How the models mark a thought."""

    answer_by: AnswerBy = "large"
    """Who writes the answer behind a thought: `large`, `small`, or `route` (the policy)."""

    max_thinking_tokens: int = 8192
    """Budget of the thought, in tokens; then `</think>` is forced."""

    max_tokens: int = 2048
    """Budget of the answer, in tokens."""

    max_step_tokens: int = 512
    """A longer step is cut there, and the next one decided anew."""

    loop_guard: bool = True
    """Whether to end a thought that repeats its steps."""

    temperature: float | None = None
    """Sampling temperature of both models; `None` takes each model's own default. Entropy is
    measured before it."""

    top_p: float | None = None
    """Nucleus sampling."""

    top_k: int | None = None
    """Sampling among the k likeliest tokens."""

    min_p: float | None = None
    """Least probability relative to the likeliest token's."""

    repetition_penalty: float | None = None
    """Above 1 discourages tokens seen before."""

    seed: int | None = None
    """Seed of a turn's sampling."""

    stop: list[str] | None = Field(
        default=None, validation_alias=AliasChoices("stop", "stop_sequences")
    )
    """Strings that end the answer; they are not part of it."""

    timeout: float | None = None
    """Seconds for a whole turn; `None` waits."""

    max_retries: int | None = None
    """Retries of a request to a server, before its first token; for engines given as URLs."""

    api_key: SecretStr | None = None
    """Key of the servers, for engines given as URLs."""

    chat_template: str | None = None
    """A chat template for both models in place of their own: its text, or the path of a file."""

    chat_template_kwargs: dict[str, Any] | None = None
    """Further variables of the chat templates."""

    streaming: bool | None = None
    """Whether `invoke` streams within, for callbacks' sake; `None` asks the callbacks."""

    stream_usage: bool = True
    """Whether messages report token counts."""

    include_trace: bool = True
    """Whether `response_metadata["glimprouter"]["trace"]` holds every step; see `trace_of`."""

    on_trace: SkipValidation[Any] = Field(default=None, exclude=True)
    """Called with the `RoutingTrace` of every finished turn, on the engines' event loop."""

    _router: Router = PrivateAttr()

    # -- construction --------------------------------------------------------------------------

    def __init__(self, **options: Any) -> None:
        """Check the options; no engine starts before the first call.

        Raises:
            ConfigurationError: If an option cannot work.
        """
        try:
            super().__init__(**options)
        except ValidationError as error:
            for detail in error.errors():
                cause = detail.get("ctx", {}).get("error")
                if isinstance(cause, ConfigurationError):
                    raise cause from None
            raise

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, values: Any) -> Any:
        if isinstance(values, dict):
            check_single(values.get("n"))
            values = {name: value for name, value in values.items() if name != "n"}
            known = {*cls.model_fields, "stop_sequences"}
            for name in values:
                if name not in known:
                    raise unknown("option", name, known)
        return values

    @model_validator(mode="after")
    def _resolve(self) -> Self:
        options = {"api_key": self.api_key, "max_retries": self.max_retries}
        engines: dict[Role, Engine] = {
            role: resolve_engine(getattr(self, role), role, options) for role in ROLES
        }
        _check_servers(engines)
        self._router = Router(engines)
        self._add_version("langchain-glimprouter", __version__)
        self._settle(None, {})
        return self

    @property
    def router(self) -> Router:
        """The one loop, over this model's engines."""
        return self._router

    def _settle(self, stop: list[str] | None, keywords: dict[str, Any]) -> Call:
        fields = {name: getattr(self, name) for name in SETTLED}
        call = settle_call(fields, frozenset(self.model_fields_set), stop, keywords)
        threshold = getattr(call.policy, "threshold", None)
        while isinstance(threshold, Budget):
            threshold = threshold.inner
        if isinstance(threshold, Calibrated):
            threshold.check_rule(rule_name(call.options.steps))
        names = [self._router.engines[role].model for role in ROLES]
        # A server tells its model when it is first asked; the first probe checks it then.
        if isinstance(threshold, Calibrated) and not any("://" in name for name in names):
            threshold.check(*names)
        return call


SETTLED = tuple(
    name
    for name in ChatOptions.__annotations__
    if name in ChatOptions.model_fields
    and name not in _NOT_SENT | {"streaming", "on_trace", *OUTPUT}
)
"""Options that make a call."""


def _check_servers(engines: dict[Role, Engine]) -> None:
    """Refuse one server in both places with two models: a vLLM server holds one."""
    urls = {role: getattr(engine, "base_url", None) for role, engine in engines.items()}
    models = {role: engine.model for role, engine in engines.items()}
    if urls["small"] and urls["small"] == urls["large"] and models["small"] != models["large"]:
        msg = (
            f"small and large are the same server {urls['small']} with different models "
            f"({models['small']!r}, {models['large']!r}): a vLLM server holds one model; start a "
            f"second server and give its URL"
        )
        raise ConfigurationError(msg)
