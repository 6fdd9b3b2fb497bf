"""LangChain's face: a chat model whose thought two models write."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Self, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables.config import ensure_config
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
from langchain_glimprouter.engines.runtime import get_runtime
from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.messages.assembler import PROVIDER, Assembler
from langchain_glimprouter.messages.convert import to_template_messages
from langchain_glimprouter.messages.tool_use import settle_tools
from langchain_glimprouter.names import unknown
from langchain_glimprouter.prepare import prepare
from langchain_glimprouter.routing.entropy import Estimator
from langchain_glimprouter.routing.events import Event, TurnFinished
from langchain_glimprouter.routing.options import AnswerBy, TurnRequest
from langchain_glimprouter.routing.policies.base import Policy
from langchain_glimprouter.routing.router import ROLES, Router
from langchain_glimprouter.routing.steps import BlankLines, Steps
from langchain_glimprouter.routing.thresholds import Threshold
from langchain_glimprouter.running import run_turn, teller
from langchain_glimprouter.settings import Call, check_single, settle_call
from langchain_glimprouter.structured import Method, structured

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Generator,
        Iterator,
        Mapping,
        Sequence,
    )

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models.model_profile import ModelProfile
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.runnables import Runnable, RunnableConfig
    from langchain_core.tools import BaseTool
    from pydantic import BaseModel

_CONFIGURABLE = ("threshold", "policy", "model")
_OUTPUT = ("include_trace", "output_version", "stream_usage")
_NOT_SENT = frozenset({"small", "large", "api_key", "max_retries"})


class ChatGlimpRouter(BaseChatModel):
    """A reasoning model that lets a small model write every step it can (arXiv 2601.05110).

    The small model glimpses the first token of each step of the thought. Where the entropy of that
    token's distribution lies above `threshold`, the large model writes the step. The large model
    writes the answer. Models that do not think have the steps of their answer routed.

    Example:
        ```python
        from langchain_glimprouter import ChatGlimpRouter

        model = ChatGlimpRouter(
            small="Qwen/Qwen3-4B-Thinking-2507",
            large="deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
            threshold=1.0,
        )
        message = model.invoke("How many primes lie between 10 and 50?")
        message.response_metadata["glimprouter"]["intervention_rate"]
        ```

    Every option from `threshold` to `chat_template_kwargs` can be overridden for one call by a
    keyword, or through `bind`; `threshold`, `policy` and `model` also through
    `config={"configurable": {...}}`.
    """

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", populate_by_name=True, protected_namespaces=()
    )

    small: SkipValidation[Engine | str]
    """The small engine: an engine object, a model's id or path (in-process), or a server's URL."""

    large: SkipValidation[Engine | str]
    """The large engine, likewise. The same vocabulary as the small one's is faster, not needed."""

    threshold: SkipValidation[float | Threshold] = 1.0
    """τ in nats: a step whose first token's entropy lies above goes to the large model.

    No value is portable between pairs of models; calibrate it.
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

    steps: SkipValidation[Steps] = Field(default_factory=BlankLines)
    """Where steps end: by default at a blank line."""

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
        fields = {name: getattr(self, name) for name in _FIELDS}
        return settle_call(fields, frozenset(self.model_fields_set), stop, keywords)

    # -- the event stream ----------------------------------------------------------------------

    def events(self, input: LanguageModelInput, **options: Any) -> Generator[Event]:
        """Run one turn and yield its routing events.

        Args:
            input: Messages, a string, or a prompt value.
            **options: Per-call options.
        """
        call, conversation = self.settle(self._convert_input(input).to_messages(), options)
        return get_runtime().iterate(self._run(call, conversation))

    def aevents(self, input: LanguageModelInput, **options: Any) -> AsyncGenerator[Event]:
        """Run one turn and yield its routing events, on any event loop."""
        call, conversation = self.settle(self._convert_input(input).to_messages(), options)
        return get_runtime().aiterate(self._run(call, conversation))

    def settle(
        self, messages: Sequence[BaseMessage], keywords: Mapping[str, Any]
    ) -> tuple[Call, list[dict[str, Any]]]:
        """Check and merge everything that needs no engine.

        Args:
            messages: The conversation.
            keywords: Per-call options, `stop` among them.

        Raises:
            ConfigurationError: If something cannot work.
        """
        options = {name: value for name, value in keywords.items() if name != "stop"}
        return self._settle(keywords.get("stop"), options), to_template_messages(messages)

    async def turn_request(
        self, call: Call, conversation: Sequence[Mapping[str, Any]]
    ) -> TurnRequest:
        """Render a conversation for the models of a call; on the engines' event loop."""
        vocabularies = await self.router.vocabularies(Router.roles(call.policy, call.options))
        return await asyncio.to_thread(prepare, call, conversation, vocabularies)

    def _run(
        self, call: Call, conversation: Sequence[Mapping[str, Any]]
    ) -> Callable[[], AsyncGenerator[Event]]:
        """Return what makes the event stream of a call; called in the caller's context."""
        tell = teller()
        return lambda: run_turn(
            self.router,
            call,
            lambda: self.turn_request(call, conversation),
            tell=tell,
            on_trace=self.on_trace,
        )

    # -- LangChain's protocol ------------------------------------------------------------------

    def assembler(self, keywords: Mapping[str, Any], call: Call | None = None) -> Assembler:
        """Return what turns a call's events into chunks and a message.

        Args:
            keywords: Per-call options.
            call: The settled call, where its answer may call tools.
        """
        version = keywords.get("output_version", self.output_version)
        return Assembler(
            blocks=version == "v1",
            model_name=self._model_name(keywords.get("model", self.model)),
            include_trace=self.include_trace,
            usage=bool(keywords.get("stream_usage", self.stream_usage)),
            answer=call.answer if call is not None else None,
        )

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        assembler = self.assembler(kwargs, call)
        with closing(get_runtime().iterate(self._run(call, conversation))) as events:
            for event in events:
                if (chunk := assembler.push(event)) is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        assembler = self.assembler(kwargs, call)
        turn = get_runtime().aiterate(self._run(call, conversation))
        async with aclosing(turn) as events:
            async for event in events:
                if (chunk := assembler.push(event)) is not None:
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                    yield chunk

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        make = self._run(call, conversation)
        return get_runtime().run(_finish(make, self.assembler(kwargs, call)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        del run_manager
        call, conversation = self.settle(messages, {**kwargs, "stop": stop})
        make = self._run(call, conversation)
        return await get_runtime().bridge(_finish(make, self.assembler(kwargs, call)))

    def invoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Run one turn; see `BaseChatModel.invoke`."""
        return super().invoke(input, config, stop=stop, **configured(config, kwargs))

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """Run one turn; see `BaseChatModel.ainvoke`."""
        return await super().ainvoke(input, config, stop=stop, **configured(config, kwargs))

    def stream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        """Stream one turn; see `BaseChatModel.stream`."""
        return super().stream(input, config, stop=stop, **configured(config, kwargs))

    def astream(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Stream one turn; see `BaseChatModel.astream`."""
        return super().astream(input, config, stop=stop, **configured(config, kwargs))

    # -- tools and the shape of the answer -----------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the models tools to call.

        Args:
            tools: Functions with docstrings, Pydantic classes, tools, or OpenAI-style dictionaries.
            tool_choice: `None` or `"auto"`: the model decides; `"none"`: no call; `"any"`,
                `"required"` or `True`: at least one call, enforced by a grammar; a tool's name, or
                OpenAI's dictionary that holds one: that tool, enforced.
            strict: Whether a call's arguments must follow the tool's schema, enforced too where
                the model decides to call.
            parallel_tool_calls: `False` allows one call an answer.
            **kwargs: More per-call options.

        Raises:
            ConfigurationError: If a tool or the choice cannot work.
        """
        given = {
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
            "strict": strict,
        }
        options = {name: value for name, value in given.items() if value is not None}
        use = settle_tools(
            tools,
            tool_choice,
            strict=strict,
            parallel=parallel_tool_calls,
            response_format=kwargs.get("response_format"),
            unique=False,  # LangChain binds what it never calls; a call refuses
        )
        return self.bind(tools=list(use.tools), **options, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Return a runnable whose answers follow a schema, enforced while they are written.

        Args:
            schema: A Pydantic class, a TypedDict, or a JSON schema with a title.
            method: `json_schema`: the answer itself is JSON of the schema; `function_calling`: it
                is a call of a tool with that schema; `json_mode`: any JSON object, of a shape that
                the prompt asks for.
            include_raw: Whether to return `{"raw", "parsed", "parsing_error"}` and raise nothing.
            strict: Taken for compatibility; schemas are always enforced.
            **kwargs: More per-call options.

        Raises:
            ConfigurationError: If the schema or the method cannot work.
        """
        return structured(
            self, schema, method=method, include_raw=include_raw, strict=strict, **kwargs
        )

    # -- what LangChain asks about a model -------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return PROVIDER

    @property
    def _identifying_params(self) -> dict[str, Any]:
        params = {name: getattr(self, name) for name in (*_FIELDS, *_OUTPUT)}
        params["stop_sequences"] = params.pop("stop")  # LangChain sets "stop" to the call's
        return {**params, **{role: self._router.engines[role].model for role in ROLES}}

    def _model_name(self, pinned: str | None = None) -> str:
        engines = self._router.engines
        if pinned in ROLES:
            return f"{pinned}: {engines[pinned].model}"
        return f"{engines['small'].model} + {engines['large'].model}"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        pinned = kwargs.get("model", self.model)
        params = LangSmithParams(
            ls_provider=PROVIDER,
            ls_model_type="chat",
            ls_model_name=pinned if isinstance(pinned, str) else self._model_name(),
        )
        temperature = kwargs.get("temperature", self.temperature)
        if temperature is not None:
            params["ls_temperature"] = temperature
        params["ls_max_tokens"] = kwargs.get("max_tokens", self.max_tokens)
        if stops := stop or self.stop:
            params["ls_stop"] = stops
        threshold = kwargs.get("threshold", self.threshold)
        policy = kwargs.get("policy", self.policy)
        routing = {
            "glimprouter_policy": getattr(policy, "name", str(policy)),
            "glimprouter_threshold": (
                threshold if isinstance(threshold, int | float) else repr(threshold)
            ),
            **{f"glimprouter_{role}": self._router.engines[role].model for role in ROLES},
        }
        return cast("LangSmithParams", {**params, **routing})

    def _resolve_model_profile(self) -> ModelProfile | None:
        return {
            "text_inputs": True,
            "text_outputs": True,
            "image_inputs": False,
            "audio_inputs": False,
            "video_inputs": False,
            "reasoning_output": True,
            "tool_calling": True,
            "tool_choice": True,
            "tool_call_streaming": True,
            "structured_output": self.tool_parser in (None, "hermes", "qwen3_json"),
            "max_output_tokens": self.max_tokens,
        }

    def get_token_ids(self, text: str) -> list[int]:
        """Return the large model's token ids of a text."""
        vocabularies = get_runtime().run(self._router.vocabularies(("large",)))
        return vocabularies["large"].encode(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count a conversation's tokens as the large model's chat template renders it."""
        vocabularies = get_runtime().run(self._router.vocabularies(("large",)))
        call = self._settle(None, {"tools": tools} if tools else {})
        request = prepare(call, to_template_messages(messages), vocabularies)
        return len(request.prompts["large"].token_ids)

    # -- life of the engines -----------------------------------------------------------------------

    def close(self) -> None:
        """Release both engines; the next call starts them afresh."""
        get_runtime().run(self._router.aclose())

    async def aclose(self) -> None:
        """Release both engines; the next call starts them afresh."""
        await get_runtime().bridge(self._router.aclose())

    def __enter__(self) -> Self:
        """Return the model."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release both engines."""
        self.close()

    async def __aenter__(self) -> Self:
        """Return the model."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release both engines."""
        await self.aclose()


_FIELDS = tuple(
    name
    for name in ChatGlimpRouter.__annotations__
    if name in ChatGlimpRouter.model_fields
    and name not in _NOT_SENT | {"streaming", "on_trace", *_OUTPUT}
)


async def _finish(make: Callable[[], AsyncGenerator[Event]], assembler: Assembler) -> ChatResult:
    message: AIMessage | None = None
    async with aclosing(make()) as events:
        async for event in events:
            if isinstance(event, TurnFinished):
                message = assembler.message(event.trace)
    assert message is not None
    return ChatResult(generations=[ChatGeneration(message=message)])


def configured(config: RunnableConfig | None, keywords: dict[str, Any]) -> dict[str, Any]:
    """Take per-call options from `config["configurable"]`; keywords win."""
    chosen = ensure_config(config).get("configurable") or {}
    found = {name: chosen[name] for name in _CONFIGURABLE if name in chosen}
    if found.get("model") not in (None, "small", "large"):
        del found["model"]  # somebody else's: agents use this name for theirs
    return {**found, **keywords}


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
