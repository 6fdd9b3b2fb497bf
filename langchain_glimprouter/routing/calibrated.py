"""A threshold that was calibrated: the file it lies in, and the rule that keeps to its models."""

from __future__ import annotations

import functools
import os
import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from langchain_glimprouter.errors import ConfigurationError, Role
from langchain_glimprouter.routing.thresholds import base_name

if TYPE_CHECKING:
    from langchain_glimprouter.routing.entropy import Entropy
    from langchain_glimprouter.routing.trace import TurnUsage


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class QuantilePoint(_Record):
    """A quantile of the entropies.

    Attributes:
        level: Which one, between 0 and 1.
        entropy: Its value, in nats.
        lower: Lower end of its confidence interval, in nats.
        upper: Upper end, in nats.
    """

    level: float
    entropy: float
    lower: float
    upper: float


class RatePoint(_Record):
    """What share of the steps a threshold sends to the large model.

    Attributes:
        threshold: τ in nats.
        rate: The share of the recorded steps whose entropy lies above τ.
        lower: Lower end of its confidence interval.
        upper: Upper end.
    """

    threshold: float
    rate: float
    lower: float
    upper: float


class GradedPoint(_Record):
    """What a threshold costs in accuracy against the large model alone, on the same questions.

    Attributes:
        threshold: τ in nats.
        questions: How many were answered by both.
        accuracy: Share of them that routing got right.
        large_accuracy: Share that the large model alone got right.
        loss_upper: Upper confidence bound of the loss of accuracy.
        holds: Whether this and every lower threshold is certified.
    """

    threshold: float
    questions: int
    accuracy: float
    large_accuracy: float
    loss_upper: float
    holds: bool


class Calibration(_Record):
    """A threshold for one pair of models, and what it rests on. `glimprouter calibrate` writes it.

    Attributes:
        kind: Marks the file.
        version: Of the file's format.
        created: When it was made.
        source: Name of the data's file.
        small: Name of the small model.
        large: Name of the large model.
        step_rule: Where steps ended; `None` in files of earlier versions.
        turns: Recorded turns that it rests on.
        steps: Probed steps that it rests on.
        target_rate: The share of steps that was asked for; `None` if labels chose the threshold.
        max_loss: The loss of accuracy that was asked for, where labels chose it.
        threshold: The τ to use, in nats.
        threshold_lower: Lower end of its confidence interval, in nats.
        threshold_upper: Upper end, in nats.
        achieved: What `threshold` gives on the data.
        confidence: Of all intervals.
        quantiles: Of the entropies.
        curve: The rate over the threshold.
        graded: What the labels say of each recorded threshold.
        warnings: What makes it doubtful, in plain sentences.
    """

    kind: Literal["glimprouter calibration"] = "glimprouter calibration"
    version: Literal[1] = 1
    created: datetime
    source: str
    small: str
    large: str
    step_rule: str | None = None
    turns: int
    steps: int
    target_rate: float | None
    max_loss: float | None = None
    threshold: float = Field(ge=0.0)
    threshold_lower: float
    threshold_upper: float
    achieved: RatePoint
    confidence: float
    quantiles: list[QuantilePoint]
    curve: list[RatePoint]
    graded: list[GradedPoint] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The paper's rule with a calibrated τ, for the pair of models that it was calibrated on.

    Models are compared by name without folders, as checkpoints are: an entropy of another pair
    means something else, and its τ would silently give another rate.

    Attributes:
        tau: The threshold, in nats.
        small: Name of the small model.
        large: Name of the large model.
        source: The calibration's file, for messages.
        step_rule: Where its steps ended; `None` if that is unknown.

    Raises:
        ConfigurationError: From `decide`, if another pair asks; a server tells its model's name
            only once it is connected, so it cannot be refused earlier in every case.
    """

    tau: float
    small: str
    large: str
    source: str = ""
    step_rule: str | None = None

    def decide(self, entropy: Entropy, usage: TurnUsage) -> tuple[Role, float]:
        """Compare the estimate with τ, if the models are the calibrated ones."""
        self.check(usage.small.model, usage.large.model)
        return ("large" if entropy.estimate > self.tau else "small"), self.tau

    def check(self, small: str, large: str) -> None:
        """Refuse another pair than the calibrated one.

        Args:
            small: Name of the small model that asks.
            large: Name of the large model.

        Raises:
            ConfigurationError: If it is another pair.
        """
        if (base_name(small), base_name(large)) == (base_name(self.small), base_name(self.large)):
            return
        msg = (
            f"threshold={self.source!r} was calibrated for small {self.small!r} + large "
            f"{self.large!r}, but the models are small {small!r} + large {large!r}: run "
            f"'glimprouter calibrate' for these; if they are the same models under other names, "
            f"change the names in the file"
        )
        raise ConfigurationError(msg)

    def check_rule(self, rule: str) -> None:
        """Refuse another rule of steps than the calibrated one: it has other first tokens.

        Args:
            rule: The rule that asks, by `rule_name`.

        Raises:
            ConfigurationError: If it is another rule.
        """
        if self.step_rule in (None, rule):
            return
        msg = (
            f"threshold={self.source!r} was calibrated on steps by {self.step_rule}, but these "
            f"end by {rule}: give the same steps=, or run 'glimprouter calibrate --steps …'"
        )
        raise ConfigurationError(msg)


def read_calibration(path: str | os.PathLike[str]) -> Calibration:
    """Return what `glimprouter calibrate` wrote.

    Raises:
        ConfigurationError: If there is no such file, or it holds no calibration.
    """
    name = os.fspath(path)
    try:
        return Calibration.model_validate_json(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        msg = (
            f"threshold={name!r} cannot work: give an entropy in nats (try 1.0), or a file that "
            f"'glimprouter calibrate' wrote ({error.strerror or error})"
        )
    except UnicodeDecodeError:
        msg = f"threshold={name!r} is no calibration: it is no text in UTF-8"
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        msg = (
            f"threshold={name!r} is no calibration: {f'{where}: ' if where else ''}{first['msg']}; "
            f"'glimprouter calibrate' writes one"
        )
    raise ConfigurationError(msg)


def calibrated(path: str | os.PathLike[str]) -> Calibrated:
    """Return the threshold that lies in a file; what makes it doubtful is warned of once.

    Raises:
        ConfigurationError: If there is no such file, or it holds no calibration.
    """
    name = os.fspath(path)
    try:
        state = Path(name).stat()
    except OSError:
        read_calibration(name)  # says what is wrong
        raise
    return _calibrated(name, state.st_mtime_ns, state.st_size)


@functools.lru_cache(maxsize=32)  # a threshold is settled for each call
def _calibrated(name: str, changed: int, size: int) -> Calibrated:
    del changed, size
    found = read_calibration(name)
    for doubt in found.warnings:
        warnings.warn(f"threshold={name!r}: {doubt}", UserWarning, stacklevel=4)
    return Calibrated(found.threshold, found.small, found.large, name, found.step_rule)
