"""How pages end, whatever they are pages of."""

import strawberry


@strawberry.type(description="Where a page ends.")
class PageInfo:
    """What the next page is asked with."""

    end_cursor: str | None
    has_next_page: bool
