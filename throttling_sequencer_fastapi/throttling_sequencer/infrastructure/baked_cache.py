"""Where numba finds what an image was built with."""

from pathlib import Path

from numba.core.caching import InTreeCacheLocator


class BakedCacheLocator(InTreeCacheLocator):
    """Reads compiled code from beside its source, even where nothing can be written.

    For `NUMBA_CACHE_LOCATOR_CLASSES` of an image; numba's own locators want to write before they read.
    """

    def ensure_cache_path(self) -> None:
        """Make the folder where there is none; whether it can be written to is for who writes to find out."""
        Path(self.get_cache_path()).mkdir(exist_ok=True)  # type: ignore[no-untyped-call] # numba has no types
