"""Where a step of a thought ends. Works on decoded text, so it sees across token borders."""

from __future__ import annotations

from langchain_glimprouter.routing.steps.base import Splitter, Steps
from langchain_glimprouter.routing.steps.counts import MaxTokens, MinTokens
from langchain_glimprouter.routing.steps.cues import CueWords
from langchain_glimprouter.routing.steps.custom import EndsWhen
from langchain_glimprouter.routing.steps.lines import BlankLines, Newlines
from langchain_glimprouter.routing.steps.named import StepRule, as_steps, rule_name
from langchain_glimprouter.routing.steps.sentences import Sentences
from langchain_glimprouter.routing.steps.whole import Whole

__all__ = [
    "BlankLines",
    "CueWords",
    "EndsWhen",
    "MaxTokens",
    "MinTokens",
    "Newlines",
    "Sentences",
    "Splitter",
    "StepRule",
    "Steps",
    "Whole",
    "as_steps",
    "rule_name",
]
