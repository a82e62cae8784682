"""The composition root: the only place that knows which implementation stands for which port."""

import sys

# svcs imports every web framework that is installed. A planning process and the command line have no use for one,
# and a server imports the one it uses by itself, so that whoever comes here first gets svcs alone.
_FRAMEWORKS = [name for name in ("aiohttp", "fastapi", "flask", "starlette") if name not in sys.modules]
sys.modules.update(dict.fromkeys(_FRAMEWORKS))  # type: ignore[arg-type]  # None is Python's way to refuse an import
import svcs  # noqa: E402, F401 - see above

for _name in _FRAMEWORKS:
    del sys.modules[_name]
