"""The endpoint of a vLLM server that scores texts: bodies out, scores in, and the first look."""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from langchain_glimprouter.engines.reward import check_labels, reward_of
from langchain_glimprouter.engines.vllm_connection import VLLMConnection
from langchain_glimprouter.engines.vllm_protocol import ServerRefusalError
from langchain_glimprouter.errors import ConfigurationError, EngineRequestError

PATH = "/pooling"


@dataclass(frozen=True)
class ServedRewards:
    """A reward model as its server serves it.

    Attributes:
        name: What requests call it.
        root: Id or path that the server loaded it from.
        labels: How many logits a token has.
        step_token: Token that texts end with, for models that judge there.
    """

    name: str
    root: str
    labels: int
    step_token: int | None = None


def pooling_body(
    model: str, prompts: Sequence[Sequence[int]], *, activation: bool = False
) -> dict[str, Any]:
    """Return the JSON body that asks for scores.

    Args:
        model: What the server calls the model.
        prompts: Token ids of the texts.
        activation: Whether to ask for probabilities instead of logits.
    """
    return {
        "model": model,
        "input": prompts,
        "use_activation": activation,
        # Exact and short, where JSON has no NaN, and a score of each token is a long list.
        "encoding_format": "base64",
        "embed_dtype": "float32",
        "endianness": "little",
    }


def read_scores(answer: Any, count: int, model: str) -> list[list[float]]:
    """Return all numbers about each text, in order; of scores a token they are one after the other.

    Args:
        answer: What the server answered.
        count: How many texts it was asked about.
        model: What errors call the model.

    Raises:
        EngineRequestError: If a text has none, or the answer is no such answer.
    """
    try:
        scores = {
            int(item["index"]): [
                value for (value,) in struct.iter_unpack("<f", base64.b64decode(item["data"]))
            ]
            for item in answer["data"]
        }
        return [scores[index] for index in range(count)]
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise EngineRequestError(
            f"The reward model {model!r} sent no score for each of {count} texts ({error!r}).",
            model=model,
        ) from error


async def check_rewards(connection: VLLMConnection, name: str, step_token: int | None) -> int:
    """Have a server score a few tokens, and return how many logits its model has.

    Raises:
        ConfigurationError: If it is no reward model, or applies its sigmoid unasked.
        EngineDeadError: If nothing answers.
        EngineRequestError: If the scores are no scores.
    """
    # The first has one token: for it a score of each token and one of the whole text are the same.
    last = [] if step_token is None else [step_token]
    probes = [last or [1], [2, *last], [3, *last]]
    try:
        logits, activated = [
            read_scores(
                await connection.ask(PATH, pooling_body(name, probes, activation=activation)),
                len(probes),
                name,
            )
            for activation in (False, True)
        ]
    except ServerRefusalError as refusal:
        if refusal.status in {httpx.codes.NOT_FOUND, httpx.codes.NOT_IMPLEMENTED}:
            raise ConfigurationError(
                f"base_url: {connection.root} generates text and scores none "
                f"({PATH}: {refusal.status}); start a reward model with "
                f"`vllm serve MODEL --runner pooling`"
            ) from refusal
        raise await connection.failure(refusal) from refusal
    labels = len(logits[0])
    check_labels(labels, name, option="base_url")
    for row in logits:
        reward_of(row[-labels:], name)
    if logits == activated and all(0.0 <= value <= 1.0 for row in logits for value in row):
        # What a server that does not know the switch would say too, having applied the sigmoid.
        raise ConfigurationError(
            f"base_url: {connection.root} tells the same scores with and without their activation, "
            f"so that logits cannot be told from probabilities; run a newer vLLM there"
        )
    return labels
