"""One turn of a call, whoever reads it: deadline, and everyone who wants to hear of it."""

from __future__ import annotations

import asyncio
import contextvars
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

from langchain_glimprouter.errors import TurnTimeoutError
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.visible import routing_event, stream_writer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.options import TurnRequest
    from langchain_glimprouter.routing.router import Router
    from langchain_glimprouter.routing.trace import RoutingTrace
    from langchain_glimprouter.settings import Call


def teller() -> Callable[[Event], None]:
    """Return what puts events on the custom stream of the graph around this call, if there is one.

    To be called in the caller's own context; what it returns may be called on any thread.
    """
    writer = stream_writer()
    if writer is None:
        return lambda _: None
    context = contextvars.copy_context()  # langgraph's writer looks its run up there

    def tell(event: Event) -> None:
        said: dict[str, Any] | None = routing_event(event)
        if said is not None:
            context.run(writer, said)

    return tell


async def run_turn(
    router: Router,
    call: Call,
    prepared: Callable[[], Awaitable[TurnRequest]],
    *,
    on_trace: Callable[[RoutingTrace], object] | None = None,
) -> AsyncGenerator[Event]:
    """Prepare a call and run its turn, on the engines' event loop.

    Args:
        router: Over the call's engines.
        call: The call.
        prepared: Renders its prompts.
        on_trace: Given the record of the finished turn.

    Raises:
        TurnTimeoutError: After the call's `timeout` seconds.
        EngineError: If an engine fails.
    """
    async with deadline(call.timeout):
        request = await prepared()
        async with aclosing(router.run(request, call.policy)) as events:
            async for event in events:
                if on_trace is not None and isinstance(event, TurnFinished):
                    on_trace(event.trace)
                yield event


@asynccontextmanager
async def deadline(timeout: float | None, spent: float = 0.0) -> AsyncIterator[None]:
    """Raise a turn's own error once its time is over.

    Args:
        timeout: Seconds for the turn, or `None`.
        spent: Seconds of them that are spent already.

    Raises:
        TurnTimeoutError: When the time is over.
    """
    clock = asyncio.timeout(None if timeout is None else timeout - spent)
    try:
        async with clock:
            yield
    except (TimeoutError, GeneratorExit) as error:
        # The clock may also strike while the turn waits for its reader, who then closes it.
        if timeout is None or not clock.expired():
            raise
        msg = (
            f"the turn took longer than timeout={timeout:g} s; raise timeout, or lower "
            f"max_thinking_tokens"
        )
        raise TurnTimeoutError(msg) from error
