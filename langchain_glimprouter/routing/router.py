"""The one loop. Everything else in this package reads its events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

from langchain_glimprouter.errors import EngineError, PromptTooLongError
from langchain_glimprouter.routing.events import TurnFinished
from langchain_glimprouter.routing.pair import EnginePair, naming
from langchain_glimprouter.routing.policies.glimprouter import GlimpRouter
from langchain_glimprouter.routing.policies.single import Always
from langchain_glimprouter.routing.saving import resume_turn
from langchain_glimprouter.routing.turn import Turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from langchain_glimprouter.engines.base import Engine, Vocabulary
    from langchain_glimprouter.errors import Role
    from langchain_glimprouter.routing.events import Event
    from langchain_glimprouter.routing.options import TurnOptions, TurnRequest
    from langchain_glimprouter.routing.policies.base import Policy
    from langchain_glimprouter.routing.thought import Thought

ROLES: tuple[Role, Role] = ("small", "large")


class Router:
    """Runs turns over a pair of engines. All of it happens on the engines' event loop.

    Attributes:
        engines: By role.
    """

    def __init__(self, engines: Mapping[Role, Engine]) -> None:
        self.engines = dict(engines)

    @staticmethod
    def roles(policy: Policy, options: TurnOptions) -> tuple[Role, ...]:
        """Return the models that a turn may call; a prompt is needed for each."""
        answer = options.answerer(policy.answer_by)
        needed = policy.roles if answer == "route" else policy.roles | {answer}
        return tuple(role for role in ROLES if role in needed)

    async def run(self, request: TurnRequest, policy: Policy) -> AsyncGenerator[Event]:
        """Run one turn: thought, then answer.

        Closing the generator aborts the running request.

        Args:
            request: Prompts for `roles(policy, request.options)`, and options.
            policy: Who writes what.

        Raises:
            PromptTooLongError: If a prompt leaves no room in its model's window.
            EngineError: With the role in it, and the turn's record so far as `trace`.
        """
        turn = await self.open(request, policy)
        while not turn.done:
            async with aclosing(self.advance(turn, policy)) as events:
                async for event in events:
                    yield event
        yield TurnFinished(turn.trace(policy.name))

    async def open(self, request: TurnRequest, policy: Policy) -> Turn:
        """Begin a turn; see `run`.

        Raises:
            PromptTooLongError: If a prompt leaves no room in its model's window.
            EngineError: With the role in it.
        """
        needed = self.roles(policy, request.options)
        for role in needed:  # before an engine starts, where it can tell
            with naming(role):
                window = await self.engines[role].context_window()
            self._check_prompt(role, len(request.prompts[role].token_ids), window)
        pair = await EnginePair.open({role: self.engines[role] for role in needed})
        for role in needed:
            self._check_prompt(role, len(request.prompts[role].token_ids), pair.windows[role])
        turn = Turn(pair, request, policy.answer_by)
        if turn.done and turn.phase == "thinking":
            turn.begin_answer()
        return turn

    async def resume(self, thought: Thought, options: TurnOptions, policy: Policy) -> Turn:
        """Go on with a turn that was saved; see `resume_turn`.

        A decision that waits is judged again if the policy's threshold is another one now.

        Args:
            thought: The record of the turn.
            options: Limits and habits from here on.
            policy: Who writes what from here on.

        Raises:
            ConfigurationError: If another pair of models, or another version, wrote the record.
            EngineError: With the role in it.
        """
        roles = {*thought["models"], *self.roles(policy, options)}
        pair = await EnginePair.open({role: self.engines[role] for role in ROLES if role in roles})
        turn = resume_turn(pair, options, thought, policy.answer_by)
        if isinstance(policy, GlimpRouter):
            policy.reconsider(turn)
        return turn

    @staticmethod
    async def advance(turn: Turn, policy: Policy) -> AsyncGenerator[Event]:
        """Let whose turn it is write: up to a hand-over, or to the end of the phase.

        Behind it the turn lies between two steps.

        Args:
            turn: The turn; not `done`.
            policy: Who writes what.

        Raises:
            EngineError: With the role in it, and the turn's record so far as `trace`.
        """
        try:
            while not turn.done:
                before = turn.progress
                writer = policy if turn.author is None else Always(turn.author, "answer")
                async with aclosing(writer.write(turn)) as events:
                    async for event in events:
                        yield event
                if turn.progress == before:
                    # An engine that ends every request at once must not spin a loop for ever.
                    await asyncio.sleep(0)
                    turn.stall()
                for event in turn.settle():
                    yield event
                if turn.step is None:
                    break
            if turn.done and turn.phase == "thinking" and turn.stop_reason is None:
                turn.begin_answer()
        except EngineError as error:
            turn.interrupt("error")
            error.trace = turn.trace(policy.name)
            raise

    async def vocabularies(self, roles: Sequence[Role]) -> dict[Role, Vocabulary]:
        """Return the vocabularies of some roles; starts no engine that need not start.

        Raises:
            EngineError: With the role in it.
        """
        found: dict[Role, Vocabulary] = {}
        for role in roles:
            with naming(role):
                found[role] = await self.engines[role].vocabulary()
        return found

    async def aclose(self) -> None:
        """Release the engines."""
        for engine in self.engines.values():
            await engine.aclose()

    def _check_prompt(self, role: Role, tokens: int, window: int) -> None:
        if tokens >= window:
            msg = (
                f"the prompt is too long for the {role} model {self.engines[role].model!r}: "
                f"{tokens:,} tokens, {tokens - window + 1:,} more than its context window of "
                f"{window:,} leaves room for; shorten the messages, or raise max_model_len"
            )
            raise PromptTooLongError(msg)
