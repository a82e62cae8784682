"""What every event is."""

from dataclasses import dataclass, field
from typing import Any, dataclass_transform


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
@dataclass(frozen=True, kw_only=True)
class BaseEvent:
    """Something that happened, as a frozen value: a subclass lists its fields, which are given by keyword.

    class OrderCreated(BaseEvent):
        order_id: str

    A subclass is a dataclass by itself, and takes no decorator. Its handlers get the same object at the same time, so
    that its fields are to be values too: a tuple, not a list. `field(repr=False)` keeps one out of sight.
    """

    def __init_subclass__(cls, **keywords: Any) -> None:  # noqa: ANN401 - whatever a further base class takes
        super().__init_subclass__(**keywords)
        dataclass(frozen=True, kw_only=True)(cls)
