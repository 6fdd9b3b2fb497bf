"""Two running vLLM servers, for instance on two machines.

Start them, then run: python examples/servers.py http://gpu-1:8000/v1 http://gpu-2:8000/v1

    vllm serve Qwen/Qwen3-4B-Thinking-2507 --port 8000
    vllm serve deepseek-ai/DeepSeek-R1-Distill-Qwen-32B --port 8000
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from langchain_glimprouter import ChatGlimpRouter, VLLMServer

TEMPLATE = Path(__file__).parent / "thinking_chat_template.jinja"


async def main(small_url: str, large_url: str, *, chat_template: str | None = None) -> str:
    """Ask one question over both servers; return the answer."""
    model = ChatGlimpRouter(
        small=VLLMServer(small_url, chat_template=chat_template),
        large=VLLMServer(large_url, chat_template=chat_template),
        threshold=1.0,
        max_thinking_tokens=150,
        max_tokens=60,
        timeout=300,
    )
    async with model:
        message = await model.ainvoke("What is 17 + 26?")
    print(message.text)
    print(message.response_metadata["glimprouter"]["tokens"])
    return str(message.text)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2]))
