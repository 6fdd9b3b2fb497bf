"""Stream a turn through LangChain, each step in its writer's colour.

Run: python examples/streaming_colors.py SMALL LARGE   (default: the demo pair)
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rich.console import Console

from langchain_glimprouter import ChatGlimpRouter
from langchain_glimprouter.engines.base import Engine

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"
COLORS = {"small": "green", "large": "magenta"}


async def main(small: Engine | str, large: Engine | str) -> str:
    """Stream one turn; return all of its text."""
    model = ChatGlimpRouter(
        small=small,
        large=large,
        threshold=1.0,
        chat_template=str(TEMPLATE),
        output_version="v1",  # content as blocks: one reasoning block a step
        temperature=0.0,
        max_thinking_tokens=200,
        max_tokens=100,
    )
    console = Console()
    color, text = "", ""
    async for chunk in model.astream("Tim reads 12 pages a day. How many pages in two weeks?"):
        for block in chunk.content_blocks:
            if block["type"] == "reasoning":
                extras = block.get("extras")  # on a step's first piece
                color = COLORS[extras["glimprouter"]["model"]] if extras else color
                piece = block["reasoning"]
            elif block["type"] == "text":
                color, piece = "bold", block["text"]
            else:
                continue
            console.print(piece, style=color, end="", markup=False, highlight=False)
            text += piece
    console.print()
    return text


if __name__ == "__main__":
    from demo_models import ensure

    names = ("Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct")
    pair = sys.argv[1:3] if len(sys.argv) > 2 else [str(path) for path in map(ensure, names)]
    asyncio.run(main(*pair))
