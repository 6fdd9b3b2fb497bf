r"""Finds the final answer in what a model wrote: in `\boxed{}`, in tags, behind "the answer is"."""

from __future__ import annotations

import re
import textwrap
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_BRACES = re.compile(r"\\(?:boxed|fbox)\s*\{|\\.|[{}]", re.DOTALL)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_HASHES = re.compile(r"^#{4}[ \t]+(\S[^\n]*)$", re.MULTILINE)  # as GSM8K's solutions end
_PHRASE = re.compile(r"(?i:\banswer\b[*_\s]*(?:is\b|are\b|[:=：]))[*_:\s]*(?=\S)")
_SENTENCE_END = re.compile(r"(?<=[^\s.])\.(?=\s|$)")
_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+#-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[`~]*[ \t]*$|\Z)",
    re.MULTILINE | re.DOTALL,
)
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:/\d+)?")
_OPERATOR = re.compile(r"\s*[-+*/×÷·^=(]")


def boxed(text: str) -> str | None:
    r"""Return what stands in the last complete `\boxed{}`."""
    opened: list[int | None] = []  # where each open brace's content begins, if it is a box's
    last, found = -1, None
    for token in _BRACES.finditer(text):
        match token.group():
            case "{":
                opened.append(None)
            case "}" if opened:
                start = opened.pop()
                if start is not None and start > last:
                    last, found = start, text[start : token.start()].strip()
            case written if written.endswith("{") and len(written) > 2:
                opened.append(token.end())
    return found


def final_answer(text: str) -> str | None:
    """Return the answer that the text marks as final, as it is written; `None` if it marks none."""
    box = boxed(text)
    if box is not None:
        return box
    tagged = _tagged(text)
    if tagged is not None:
        return tagged
    hashes = _HASHES.findall(text)
    if hashes:
        return str(hashes[-1]).strip()
    phrases = list(_PHRASE.finditer(text))
    if phrases:
        line = text[phrases[-1].end() :].partition("\n")[0]
        return _SENTENCE_END.split(line)[0].strip(" *_`\t\r")
    return None


def _tagged(text: str) -> str | None:
    """Return what stands in the last `<answer>` that is closed, in one pass over the text."""
    opened, found = None, None
    for tag in _TAG.finditer(text):
        if not tag.group(1):
            opened = tag.end() if opened is None else opened
        elif opened is not None:
            opened, found = None, text[opened : tag.start()].strip()
    return found


_GROUPED = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_REWRITES: Sequence[tuple[re.Pattern[str], str]] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (
            r"\\(?:text|textbf|textit|texttt|mathrm|mathbf|mathit|operatorname)\s*\{([^{}]*)\}",
            r"\1",
        ),
        (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2"),
        (r"\\[dt]?frac\s*(\d)\s*(\d)", r"\1/\2"),
        (r"\{,\}", ","),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree", ""),
        (r"\\(?:left|right|displaystyle)(?![a-zA-Z])", ""),
        (r"\\(?:times|cdot)(?![a-zA-Z])", "*"),
        (r"\\[,;:! ]|~", " "),
        (r"\\[()\[\]]|(?<!\\)\$", ""),
        (r"\\([%$#&_{}])", r"\1"),
        (r"[−–]", "-"),
        (r"\s+", " "),
    )
)


def plain(text: str) -> str:
    r"""Return the text without LaTeX's dress: `\text{Yes}` is `Yes`, `\frac{1}{2}` is `1/2`."""
    for pattern, by in _REWRITES:
        text = pattern.sub(by, text)
    return text.strip()


def same_text(one: str, other: str) -> bool:
    """Whether two answers read the same, whatever their dress."""
    first, second = (_bare(plain(text).replace(" ", "").casefold()) for text in (one, other))
    return bool(first) and first == second


def _bare(text: str) -> str:
    """Take the brackets off `(c)`; those of a point or an interval say something."""
    inner = text[1:-1]
    return inner if text == f"({inner})" and not set(inner) & set("(),") else text


def is_number(text: str) -> bool:
    """Whether the text is a number and nothing else."""
    return _NUMBER.fullmatch(_GROUPED.sub("", text.strip())) is not None


def first_number(text: str) -> str | None:
    """Return the number that a final answer states: of `x = 6 * 7 = 42 km` that is `42`."""
    text = _GROUPED.sub("", plain(text).replace("\\ ", " "))
    found = _NUMBER.search(text)
    if (
        found
        and "=" in text
        and (text[: found.start()].strip() or _OPERATOR.match(text, found.end()))
    ):
        found = _NUMBER.search(text, text.rindex("=")) or found
    return found.group().lstrip("+") if found else None


def last_number(text: str) -> str | None:
    """Return the last number in the text."""
    found = _NUMBER.findall(_GROUPED.sub("", plain(text)))
    return found[-1].lstrip("+") if found else None


def decimal(number: str) -> str:
    """Write `1/2` as `0.5`, and leave other numbers as they are."""
    above, _, below = number.partition("/")
    if below and int(below):
        return f"{(Decimal(above) / Decimal(below)).normalize():f}"
    return number


def last_line(text: str) -> str | None:
    """Return the last line that is not blank."""
    lines = [line.strip(" *_`") for line in text.splitlines() if line.strip(" *_`\t")]
    return lines[-1] if lines else None


def choice(text: str, letters: str, options: Sequence[str] = ()) -> str | None:
    """Return the letter that the text chooses.

    Args:
        text: The whole answer.
        letters: The letters that there are, for instance `ABCD`.
        options: What they stand for, in their order; an answer may quote it instead.
    """
    stated = final_answer(text) or last_line(text)
    if stated is None:
        return None
    stated = plain(stated).strip("*_`. ")
    named = re.match(rf"(?:(?i:option|choice)\s+)?[(\[]?([{letters}])(?![A-Za-z0-9'’])", stated)
    if named:
        return named.group(1)
    if len(stated) == 1 and stated.upper() in letters:
        return stated.upper()
    for letter, option in zip(letters, options, strict=False):
        if same_text(option, stated):
            return letter
    return None


def fenced_code(text: str) -> str | None:
    """Return the last fenced block of Python; of unlabelled code, if none is labelled so."""
    blocks = [(label.lower(), body) for _, label, body in _FENCE.findall(text)]
    for labels in (("python", "python3", "py"), ("",)):
        for label, body in reversed(blocks):
            if label in labels and body.strip():
                return textwrap.dedent(body)
    return None
