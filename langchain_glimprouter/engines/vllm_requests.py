"""Requests to a running `AsyncLLM`: what goes in, what comes out, what can go wrong."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.engines.base import FinishReason, GenerationDelta, GenerationRequest
from langchain_glimprouter.engines.logprobs import FlatTopLogprobs
from langchain_glimprouter.errors import (
    ConfigurationError,
    EngineDeadError,
    EngineError,
    EngineRequestError,
)

if TYPE_CHECKING:
    from vllm import SamplingParams
    from vllm.outputs import CompletionOutput, RequestOutput
    from vllm.tasks import PoolingTask
    from vllm.v1.engine.async_llm import AsyncLLM

_FINISH: dict[str, FinishReason] = {"stop": "stop", "repetition": "stop", "length": "length"}
_DEFAULTS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)


async def stream(
    llm: AsyncLLM,
    request: GenerationRequest,
    token_ids: list[int],
    *,
    model: str,
    request_id: str,
    defaults: Mapping[str, Any],
) -> AsyncGenerator[GenerationDelta]:
    """Generate; closing the generator aborts the request with all its continuations.

    Args:
        llm: A running engine, on its own event loop.
        request: What to generate.
        token_ids: The request's ids, as they are now.
        model: What errors call the model.
        request_id: A name that no other request of this engine has.
        defaults: Sampling settings that hold where the request sets none.

    Raises:
        EngineDeadError: If the engine's process is gone.
        EngineRequestError: If the engine refuses the request or breaks it off.
    """
    from vllm.inputs import tokens_input

    if llm.errored:
        raise dead(model)
    first, finished = True, False
    outputs: AsyncGenerator[RequestOutput] | None = None
    try:
        outputs = llm.generate(
            tokens_input(token_ids),
            sampling_params(request, defaults),
            request_id=request_id,
            data_parallel_rank=_rank(llm, request.session_id),
            # A grammar begins at the first token, whatever the prompt says about a thought.
            reasoning_ended=True if request.constraint is not None else None,
        )
        async for output in outputs:
            finished = output.finished
            cached = output.num_cached_tokens if first else None
            first = False
            for completion in output.outputs:  # one of each continuation that went on
                yield _delta(completion, request.top_logprobs, cached, model)
                cached = None
    except Exception as error:
        translated = translate(error, llm, model)
        if translated is error:
            raise
        if request.constraint is not None and _refused(error):
            raise unenforceable(model, error) from error
        raise translated from error
    finally:
        if outputs is not None and not finished:
            # Shielded: a second cancellation must not break off the abort.
            await asyncio.shield(asyncio.ensure_future(outputs.aclose()))


def sampling_params(request: GenerationRequest, defaults: Mapping[str, Any]) -> SamplingParams:
    """Return vLLM's parameters; the model's own defaults fill in what the request leaves open."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    asked = request.sampling
    values = {name: defaults[name] for name in _DEFAULTS if defaults.get(name) is not None}
    for name in ("temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
        value = getattr(asked, name)
        if value is not None:
            values[name] = value
    return SamplingParams(
        **values,
        n=request.n,
        max_tokens=request.max_tokens,
        seed=request.seed,
        logprobs=request.top_logprobs or None,
        flat_logprobs=True,
        stop_token_ids=list(request.stop_token_ids),
        stop=list(request.stop),
        detokenize=bool(request.stop),
        output_kind=RequestOutputKind.DELTA,
        skip_clone=True,
        structured_outputs=(
            StructuredOutputsParams(**request.constraint) if request.constraint else None
        ),
    )


def _refused(error: Exception) -> bool:
    """Whether the request is to blame, and not the engine."""
    from vllm.exceptions import VLLMClientError

    return isinstance(error, VLLMClientError | ValueError)


def unenforceable(model: str, error: object) -> ConfigurationError:
    """Return the error of an engine that cannot hold an answer to a schema."""
    return ConfigurationError(
        f"{model!r} cannot hold its answer to the schema of response_format, "
        f"with_structured_output or the tools: {error}. Leave out what the grammar back end does "
        f"not know, or choose another (VLLMEngine(..., structured_outputs_config={{'backend': "
        f"'guidance'}}), vllm serve --structured-outputs-config.backend guidance)."
    )


def _rank(llm: AsyncLLM, session_id: str | None) -> int | None:
    """Keep a conversation on the replica that holds its prefix."""
    parallel = llm.vllm_config.parallel_config
    replicas = parallel.data_parallel_size
    if session_id is None or replicas == 1 or parallel.local_engines_only:
        return None
    return zlib.crc32(session_id.encode()) % int(replicas)


def _delta(
    completion: CompletionOutput, top: int, cached: int | None, model: str
) -> GenerationDelta:
    reason = completion.finish_reason
    if reason is not None and reason not in _FINISH:
        raise EngineRequestError(
            f"The engine of {model!r} broke the request off ({reason}).", model=model
        )
    flat: Any = completion.logprobs
    return GenerationDelta(
        token_ids=completion.token_ids,
        top_logprobs=FlatTopLogprobs(flat, top) if top and flat is not None else None,
        finish_reason=None if reason is None else _FINISH[reason],
        cached_tokens=cached,
        index=completion.index,
    )


def dead(model: str) -> EngineDeadError:
    """Return the error of an engine whose process is gone."""
    return EngineDeadError(
        f"The engine of {model!r} has died or was closed. `close()` it, and its next use starts it "
        "afresh; if it dies again, lower `gpu_memory_utilization`, `kv_cache_memory_bytes` or "
        "`max_num_seqs`.",
        model=model,
    )


def translate(error: Exception, llm: AsyncLLM, model: str) -> Exception:
    """Return our error for one of vLLM's."""
    from vllm.v1.engine.exceptions import EngineDeadError as VLLMDeadError
    from vllm.v1.engine.exceptions import EngineGenerateError

    if isinstance(error, EngineError):
        return error
    if isinstance(error, VLLMDeadError) or llm.errored:
        return dead(model)
    reason: BaseException = error
    if isinstance(error, EngineGenerateError) and error.__cause__ is not None:
        reason = error.__cause__
    verb = "refused" if _refused(error) else "failed at"
    text = str(reason) or type(reason).__name__
    return EngineRequestError(f"The engine of {model!r} {verb} a request: {text}", model=model)


async def score(
    llm: AsyncLLM, token_ids: list[int], task: PoolingTask, *, model: str, request_id: str
) -> list[float]:
    """Return the logits at the last token, none if there are none; cancelling aborts.

    Args:
        llm: A running engine with a pooling model, on its own event loop.
        token_ids: The text.
        task: What the model does: `classify` or `token_classify`.
        model: What errors call the model.
        request_id: A name that no other request of this engine has.

    Raises:
        EngineDeadError: If the engine's process is gone.
        EngineRequestError: If the engine refuses the request or breaks it off.
    """
    from vllm import PoolingParams
    from vllm.inputs import tokens_input

    try:
        outputs = llm.encode(
            tokens_input(token_ids),
            PoolingParams(task=task, use_activation=False),
            request_id=request_id,
        )
        async for output in outputs:
            data = output.outputs.data
    except Exception as error:
        translated = translate(error, llm, model)
        if translated is error:
            raise
        raise translated from error
    if task == "token_classify" and data.numel():
        data = data[-1]  # one row a token
    values: list[float] = data.flatten().tolist()
    return values
