"""What the tests share: demo models (made if missing, never skipped), engines, servers, hosts.

Each engine starts once. It runs from the first test that needs any to the last one that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples import demo_models
from integration_tests import engines, hosts
from integration_tests.ahead import Ahead, Scene
from integration_tests.hosts import Ended
from langchain_glimprouter import VLLMEngine
from langchain_glimprouter.bench.servers import Server

# What begins before the first test, where a chosen test needs it. The lanes take about as long.
ENGINES: dict[str, Scene[VLLMEngine]] = {
    "smollm_engine": engines.smollm_engine,
    "small_engine": engines.small_engine,
    "exact_engine": engines.exact_engine,
    "large_engine": engines.large_engine,
}
LANES: list[dict[str, Scene[Any]]] = [
    {
        **ENGINES,
        "killed_as_it_starts": hosts.killed_as_it_starts,
        "interrupted": hosts.interrupted,
    },
    {
        "smollm_server": engines.smollm_server,
        "killed_in_mid_thought": hosts.killed_in_mid_thought,
        "finished": hosts.finished,
        "strict_server": engines.strict_server,
    },
]

# Nothing is written in the first ones, so that they pass meanwhile; the next ones need the largest
# engine, which ends with them; the last one kills and closes the smallest.
MEANWHILE = ("test_tool_parsers", "test_vocabulary")
LARGE = (
    "test_examples",
    "test_rival_policies",
    "test_speculative",
    "test_thinking",
    "test_vocabulary_pairs",
)
LAST = ("test_cancellation",)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the tests into an order in which no engine starts twice or runs for nothing."""

    def place(item: pytest.Item) -> int:
        module = item.path.stem
        if meanwhile(item):
            return 0
        return 1 if module in LARGE else 3 if module in LAST else 2

    items.sort(key=place)


def meanwhile(item: pytest.Item) -> bool:
    """Tell whether a test may run while engines start."""
    return item.path.stem in MEANWHILE and "quiet" not in getattr(item, "fixturenames", ())


def needed(items: list[pytest.Item]) -> set[str]:
    """Return the names of the fixtures that tests need."""
    return {name for item in items for name in getattr(item, "fixturenames", ())}


@pytest.fixture(scope="session", autouse=True)
def ahead(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ahead]:
    """Begin what the chosen tests need."""
    names = needed(request.session.items)
    lanes = [[scene for name, scene in lane.items() if name in names] for lane in LANES]
    with Ahead(tmp_path_factory.mktemp("ahead"), lanes) as ahead:
        # A test meanwhile would take turns with the threads that start engines in this process.
        ahead.wait(*(scene for name, scene in ENGINES.items() if name in names))
        yield ahead


@pytest.fixture
def quiet(ahead: Ahead) -> None:
    """Wait until nothing starts any more: the test measures time."""
    ahead.wait_for_all()


@pytest.fixture(autouse=True)
def _alone(request: pytest.FixtureRequest, ahead: Ahead) -> None:
    """Wait until nothing starts any more: engines that write want all cores."""
    if not meanwhile(request.node):
        ahead.wait_for_all()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End engines whose last test this was. (They would start again if there were another.)"""
    items = item.session.items
    rest = needed(items[items.index(nextitem) :]) if nextitem is not None else set()
    for name in ENGINES.keys() - rest:
        engine = getattr(item, "funcargs", {}).get(name)
        if engine is not None:
            engine.close()


# Models ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def smollm() -> Path:
    """Folder of the smallest model, for tests that need any model."""
    return demo_models.ensure(engines.SMOLLM)


@pytest.fixture(scope="session")
def qwen_small() -> Path:
    """Folder of the demo pair's small model."""
    return demo_models.ensure(engines.QWEN_SMALL)


@pytest.fixture(scope="session")
def qwen_large() -> Path:
    """Folder of the demo pair's large model, with the small one's vocabulary."""
    return demo_models.ensure(engines.QWEN_LARGE)


@pytest.fixture(scope="session")
def thinking_template() -> Path:
    """Chat template that makes the demo pair think."""
    return Path(demo_models.__file__).with_name("thinking_chat_template.jinja")


# Engines and servers -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def smollm_engine(ahead: Ahead) -> VLLMEngine:
    """The smallest model in this process, three times as quick as the next."""
    return ahead.get(engines.smollm_engine)


@pytest.fixture(scope="session")
def exact_engine(ahead: Ahead) -> VLLMEngine:
    """The smallest model in float32: what it writes repeats itself."""
    return ahead.get(engines.exact_engine)


@pytest.fixture(scope="session")
def small_engine(ahead: Ahead) -> VLLMEngine:
    """The demo pair's small model in this process."""
    return ahead.get(engines.small_engine)


@pytest.fixture(scope="session")
def large_engine(ahead: Ahead) -> VLLMEngine:
    """The demo pair's large model in this process, drafted for by the small one.

    For tests of the pair itself; other tests have smaller models in that place.
    """
    return ahead.get(engines.large_engine)


@pytest.fixture(scope="session")
def smollm_server(ahead: Ahead) -> Server:
    """The smallest model behind a server with both of vLLM's endpoints for token ids."""
    return ahead.get(engines.smollm_server)


@pytest.fixture(scope="session")
def strict_server(ahead: Ahead) -> Server:
    """A server with options that get in the way."""
    return ahead.get(engines.strict_server)


# Hosts -------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def killed_as_it_starts(ahead: Ahead) -> Ended:
    """A host that was killed while its engine started."""
    return ahead.get(hosts.killed_as_it_starts)


@pytest.fixture(scope="session")
def killed_in_mid_thought(ahead: Ahead) -> Ended:
    """A host that was killed while its engine wrote; its thought is in `ahead.folder`."""
    return ahead.get(hosts.killed_in_mid_thought)


@pytest.fixture(scope="session")
def interrupted(ahead: Ahead) -> Ended:
    """The command line, ended by Ctrl-C."""
    return ahead.get(hosts.interrupted)


@pytest.fixture(scope="session")
def finished(ahead: Ahead) -> Ended:
    """A script that came to its end."""
    return ahead.get(hosts.finished)
