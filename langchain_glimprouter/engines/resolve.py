"""From what a user writes for an engine to an engine."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.engines.base import Engine
from langchain_glimprouter.errors import ConfigurationError, Role

if TYPE_CHECKING:
    from collections.abc import Mapping

_shared: weakref.WeakValueDictionary[tuple[Any, ...], Engine] = weakref.WeakValueDictionary()


def resolve_engine(value: Engine | str, role: Role, options: Mapping[str, Any]) -> Engine:
    """Return the engine that `value` names.

    Equal names give the same engine while anyone holds it, so that two chat models do not load the
    same weights twice.

    Args:
        value: An engine, the URL of a vLLM server, or a model's id or path.
        role: Its place in the pair; in-process engines share a GPU accordingly.
        options: For servers: `api_key` and `max_retries`; `None` for unset.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if not isinstance(value, str):
        if isinstance(value, type) or not isinstance(value, Engine):
            msg = (
                f"{role}={value!r} is no engine: give a model's id or path, the URL of a vLLM "
                f"server, or a VLLMEngine, VLLMServer or ScriptedEngine object"
            )
            raise ConfigurationError(msg)
        _hint(value, role)
        return value
    if not value.strip():
        msg = f"{role} is empty: give a model's id or path, or the URL of a vLLM server"
        raise ConfigurationError(msg)
    remote = value.startswith(("http://", "https://"))
    given = {name: option for name, option in options.items() if remote and option is not None}
    key = (value, role, *sorted(given.items(), key=lambda item: item[0]))
    engine = _shared.get(key)
    if engine is None:
        try:
            engine = _server(value, given) if remote else _local(value)
        except ConfigurationError as error:
            msg = f"{role}={value!r}: {error}"
            raise ConfigurationError(msg) from error
        _hint(engine, role)
        _shared[key] = engine
    return engine


def _server(url: str, options: Mapping[str, Any]) -> Engine:
    from langchain_glimprouter.engines.vllm_server import VLLMServer

    return VLLMServer(url, **options)


def _local(model: str) -> Engine:
    from langchain_glimprouter.engines.vllm_local import VLLMEngine

    return VLLMEngine(model)


def _hint(engine: Engine, role: Role) -> None:
    """Tell an in-process engine its place, by which it shares a GPU, unless it knows one."""
    if getattr(engine, "role_hint", role) is None:
        engine.role_hint = role  # type: ignore[attr-defined]
