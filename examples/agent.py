"""An agent with three tools, whose thoughts two models write, on a budget of the large one.

Run: python examples/agent.py SMALL LARGE   (model ids, paths or URLs; default: the demo pair)
"""

from __future__ import annotations

import ast
import math
import operator
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, AnyMessage, ToolMessage
from langchain_core.tools import tool

from langchain_glimprouter import ChatGlimpRouter, GlimpRouterMiddleware, Limit
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
SYSTEM = "You work in a shop. Answer with the tools' results, in one sentence."
QUESTION = "A customer takes 3 kettles. What does she pay, with the discount of our handbook?"

HANDBOOK = (
    "Discounts: three or more of the same product are 10 percent cheaper.",
    "Returns: unused products can be returned within 30 days.",
    "Delivery: orders above 50 euros are delivered free of charge.",
    "Opening hours: the shop is open from 9 to 18 on every weekday.",
)
PRODUCTS = [("kettle", 24.50, 12), ("toaster", 31.00, 0), ("mug", 4.25, 140), ("teapot", 19.90, 7)]

_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}


@tool
def search_handbook(words: str) -> str:
    """Find what the shop's handbook says about something.

    Args:
        words: What to look for, for instance "returns".
    """
    scores = dict.fromkeys(HANDBOOK, 0.0)
    for word in _words(words):
        found = [text for text in HANDBOOK if word in _words(text)]
        for text in found:
            scores[text] += 1 / len(found)  # rare words tell more
    best = max(HANDBOOK, key=lambda text: scores[text])
    return best if scores[best] else "Nothing found. Topics: " + ", ".join(map(_topic, HANDBOOK))


@tool
def look_up_product(name: str) -> str:
    """Look up a product's price and stock in the shop's database.

    Args:
        name: The product, for instance "mug".
    """
    with sqlite3.connect(":memory:") as shop:
        shop.execute("CREATE TABLE products (name TEXT, price REAL, stock INTEGER)")
        shop.executemany("INSERT INTO products VALUES (?, ?, ?)", PRODUCTS)
        rows = shop.execute(
            "SELECT name, price, stock FROM products WHERE instr(lower(?), name)", (name,)
        ).fetchall()
    shop.close()
    if not rows:
        return f"No such product. We have: {', '.join(product for product, *_ in PRODUCTS)}"
    return "\n".join(f"{row[0]}: {row[1]:.2f} euros each, {row[2]} in stock" for row in rows)


@tool
def calculator(expression: str) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: Numbers, + - * / // % and brackets, for instance "2 * (3 + 4.5)".
    """
    try:
        result = calculate(expression)
    except (ValueError, ArithmeticError) as error:
        return f"Error: {error}"  # for the model, which may try again
    return f"{result:.10g}"


TOOLS = [search_handbook, look_up_product, calculator]


def calculate(expression: str) -> float:
    """Return the value of an arithmetic expression; evaluates nothing else.

    Raises:
        ValueError: If it is none.
        ArithmeticError: If it has no finite value.
    """
    if len(expression) > 200:
        msg = "the expression is too long"
        raise ValueError(msg)
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        msg = f"{expression!r} is no arithmetic expression"
        raise ValueError(msg) from error
    if not math.isfinite(value):
        msg = f"{expression!r} is too large"
        raise ArithmeticError(msg)
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.BinOp(op=kind) if type(kind) in _OPERATORS:
            return _OPERATORS[type(kind)](_value(node.left), _value(node.right))
        case ast.UnaryOp(op=sign) if type(sign) in _OPERATORS:
            return _OPERATORS[type(sign)](_value(node.operand))
    msg = f"{ast.unparse(node)!r} is not allowed: use numbers, + - * / // % and brackets"
    raise ValueError(msg)


def _words(text: str) -> set[str]:
    return {word.rstrip("s") for word in re.findall(r"[a-z]{3,}", text.lower())}


def _topic(text: str) -> str:
    return text.partition(":")[0].lower()


class EveryToolOnce(AgentMiddleware):
    """Has every tool called once, in order, before the answer: small models like to guess.

    A grammar enforces each call, so it works with any model; large ones do well without.
    """

    def wrap_model_call(
        self,
        request: ModelRequest[None],
        handler: Callable[[ModelRequest[None]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Choose the next tool."""
        return handler(self._asked(request))

    async def awrap_model_call(
        self,
        request: ModelRequest[None],
        handler: Callable[[ModelRequest[None]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Choose the next tool."""
        return await handler(self._asked(request))

    @staticmethod
    def _asked(request: ModelRequest[None]) -> ModelRequest[None]:
        used = {message.name for message in request.messages if isinstance(message, ToolMessage)}
        names = [getattr(one, "name", None) for one in request.tools]
        return request.override(tool_choice=next((n for n in names if n not in used), "none"))


def build(small: Engine | str, large: Engine | str, **options: Any) -> Any:
    """Return the agent.

    Args:
        small: The small engine, a model's id or path, or a server's URL.
        large: The large one, likewise.
        **options: More options of the chat model.
    """
    model = ChatGlimpRouter(
        small=small,
        large=large,
        **{
            "chat_template": str(TEMPLATE),
            "temperature": 0.0,
            "max_thinking_tokens": 100,
            "max_tokens": 100,
            **options,
        },
    )
    budget = GlimpRouterMiddleware(threshold=1.0, run_limit=Limit(large_tokens=400))
    return create_agent(
        model, tools=TOOLS, system_prompt=SYSTEM, middleware=[EveryToolOnce(), budget]
    )


def main(small: Engine | str, large: Engine | str, **options: Any) -> list[AnyMessage]:
    """Ask one question and print what happens; return all messages behind it."""
    messages: list[AnyMessage] = []
    agent = build(small, large, **options)
    for update in agent.stream({"messages": QUESTION}, stream_mode="updates"):
        for change in update.values():
            for message in (change or {}).get("messages", []):
                show(message)
                messages.append(message)
    return messages


def show(message: AnyMessage) -> None:
    """Print a message, and how much of it the large model wrote."""
    if isinstance(message, AIMessage) and "glimprouter" in message.response_metadata:
        routing = message.response_metadata["glimprouter"]
        large = routing["tokens"]["large"]["decode"]
        both = large + routing["tokens"]["small"]["decode"]
        calls = [f"{call['name']}({call['args']})" for call in message.tool_calls]
        print(f"[{large} of {both} tokens by the large model]", *calls, message.text.strip())
    else:
        print(f"  {message.name or message.type}: {message.text}")


if __name__ == "__main__":  # vLLM starts processes that import this file
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    main(*pair)
