"""The sequencer's tables, as its latest migration leaves them."""

from piccolo.columns import UUID, DoublePrecision, Text
from piccolo.table import Table

from throttling_sequencer.infrastructure.db.piccolo_throttling_sequencer_app.pool_config import DB

SCHEMA = "throttling_sequencer"


class GqlRequestInfo(Table, db=DB, schema=SCHEMA, tablename="gql_request_info"):
    """The request log: a row for each GraphQL operation that ended, under an id whose order is that of time.

    A second index, on `(user_id, operation_id)`, which Piccolo cannot express, pages through a user's own rows.
    """

    operation_id = UUID(primary_key=True, default=None)
    request_id = Text(default=None)
    operation_name = Text(default=None, null=True)
    user_id = Text(default=None)
    unix_time = DoublePrecision(default=None, index=True)
    duration_ms = DoublePrecision(default=None)
    outcome = Text(default=None)
