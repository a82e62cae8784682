"""The guards at work: which watch over a test, and how a test fails for what they find."""

from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from api_server.testing.guards.blocking import BlockingGuard
from api_server.testing.guards.descriptors import DescriptorsGuard
from api_server.testing.guards.guard import Guard
from api_server.testing.guards.locks import LocksGuard
from api_server.testing.guards.pool_slots import PoolSlotsGuard
from api_server.testing.guards.secret import SecretGuard
from api_server.testing.guards.tasks import TasksGuard

# In the order in which they are asked what a test left behind; before it, in reverse. Collecting garbage, as that of
# descriptors does, may give slots back.
GUARDS = ("blocking", "tasks", "pool_slots", "descriptors", "locks", "secret")

_PLUGIN = "api_server guards"
_LEFT = pytest.StashKey[list[str]]()
_HAS_FAILED = pytest.StashKey[bool]()

# What fails a test without being a failure of it.
_NO_FAILURES = (pytest.skip.Exception, pytest.xfail.Exception)

_Phase = Generator[None, object, object]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a project may choose."""
    every = " ".join(GUARDS)
    parser.addini("api_server_guards", f"the guards that watch over tests (default: {every})", "args", list(GUARDS))
    help_blocking = "milliseconds for which a callback may hold up its event loop (default: 100)"
    parser.addini("api_server_blocking_ms", help_blocking, "string", "100")


def pytest_configure(config: pytest.Config) -> None:
    """Set the guards up."""
    config.addinivalue_line(
        "markers",
        "unguarded(*guards, reason): the test does by its nature what these guards of api_server.testing forbid",
    )
    names = config.getini("api_server_guards")
    if unknown := sorted(set(names) - set(GUARDS)):
        raise pytest.UsageError(f"api_server_guards: there is no guard {_listed(unknown)}, but {_listed(GUARDS)}")
    config.pluginmanager.register(_Guarding([_new(name, config) for name in GUARDS if name in names]), _PLUGIN)


@pytest.fixture(autouse=True)
def guarded(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have guards compare how things are before the test's own fixtures are set up, and after they are torn down."""
    guarding = request.config.pluginmanager.get_plugin(_PLUGIN)
    assert isinstance(guarding, _Guarding)
    guards = guarding.over(request.node)
    for guard in reversed(guards):
        guard.begin()
    yield
    # Told when everything is torn down, so that nothing is left because of it.
    request.node.stash[_LEFT] = [text for guard in guards for text in guard.end(request)]


class _Guarding:
    """Asks the guards, at each phase of a test, and fails the phase for what they say."""

    def __init__(self, guards: list[Guard]) -> None:
        self._guards = guards

    def over(self, item: pytest.Item) -> list[Guard]:
        """Return the guards that watch over a test."""
        unguarded = _unguarded(item)
        return [guard for guard in self._guards if guard.name not in unguarded]

    @pytest.hookimpl
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if wrong := [problem for item in items for problem in _problems_of_marks(item)]:
            raise pytest.UsageError("\n".join(wrong))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> _Phase:
        with ExitStack() as stack:
            for guard in self._guards:
                guard.start()
                stack.callback(guard.stop)
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> _Phase:
        guards = self.over(item)
        item.stash[_HAS_FAILED] = False
        for guard in self._guards:
            guard.enter(item, is_guarded=guard in guards)
        return (yield from self._phase(item, "setup"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> _Phase:
        for guard in self._guards:
            guard.call()
        return (yield from self._phase(item, "call"))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> _Phase:
        return (yield from self._phase(item, "teardown"))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> _Phase:
        if fixturedef.scope == "function":
            return (yield)
        with ExitStack() as stack:
            for guard in self._guards:
                stack.enter_context(guard.outliving())
            value = yield
            for guard in self._guards:
                guard.keep(fixturedef, value)
        return value

    @pytest.hookimpl
    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[object]) -> None:
        for guard in self._guards:
            guard.drop(fixturedef)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        for guard in self._guards:
            if isinstance(guard, SecretGuard):
                guard.look_at(item, report, is_guarded=guard in self.over(item))
        return report

    def _phase(self, item: pytest.Item, when: str) -> _Phase:
        try:
            result = yield
        except BaseException as error:
            item.stash[_HAS_FAILED] = not isinstance(error, _NO_FAILURES)
            self._tell_beside(item, when, self._found(item))
            raise
        if found := self._found(item):
            if when == "teardown" and item.stash[_HAS_FAILED]:
                # A test that failed did not come to its end, where it would have cleaned up.
                self._tell_beside(item, when, found)
            else:
                pytest.fail("\n\n".join(found), pytrace=False)
        return result

    def _found(self, item: pytest.Item) -> list[str]:
        guards = self.over(item)
        # Who does not watch over this test is asked too: what it says is not told, then or later.
        happened = [text for guard in self._guards for text in guard.happened() if guard in guards]
        left = item.stash.get(_LEFT, [])
        item.stash[_LEFT] = []
        return [*happened, *left]

    def _tell_beside(self, item: pytest.Item, when: str, found: list[str]) -> None:
        """Show what was found beside a failure that is the test's own."""
        if found:
            item.add_report_section(when, "by guards", "\n\n".join(found))


def _new(name: str, config: pytest.Config) -> Guard:
    match name:
        case "blocking":
            return BlockingGuard(_limit_s(config))
        case "tasks":
            return TasksGuard()
        case "pool_slots":
            return PoolSlotsGuard()
        case "descriptors":
            return DescriptorsGuard()
        case "locks":
            return LocksGuard()
    return SecretGuard(config)


def _limit_s(config: pytest.Config) -> float:
    text = str(config.getini("api_server_blocking_ms"))
    try:
        return float(text) / 1000
    except ValueError:
        raise pytest.UsageError(f"api_server_blocking_ms is {text!r}, and should be a number") from None


def _unguarded(item: pytest.Item) -> set[str]:
    return {str(name) for mark in item.iter_markers("unguarded") for name in mark.args}


def _problems_of_marks(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("unguarded"):
        if unknown := sorted(set(map(str, mark.args)) - set(GUARDS)):
            yield f"{item.nodeid}: there is no guard {_listed(unknown)}, but {_listed(GUARDS)}"
        if not mark.args or not mark.kwargs.get("reason"):
            yield f'{item.nodeid}: it is @pytest.mark.unguarded("blocking", reason="why it must be")'


def _listed(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names)
