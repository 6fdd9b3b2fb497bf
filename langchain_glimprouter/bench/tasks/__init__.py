"""Where a bench's questions come from, how they are put to a model, and how answers are graded."""

from langchain_glimprouter.bench.tasks.base import Grade, Question, Split, Task
from langchain_glimprouter.bench.tasks.catalog import find_task

__all__ = ["Grade", "Question", "Split", "Task", "find_task"]
