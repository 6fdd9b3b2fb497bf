"""What the README shows without a model runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_scripted_example_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    scripted = [block for block in blocks if "ScriptedEngine(" in block]
    assert len(scripted) == 1
    exec(scripted[0], {})
