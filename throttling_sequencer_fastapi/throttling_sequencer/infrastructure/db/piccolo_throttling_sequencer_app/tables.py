"""The sequencer's tables, as its latest migration leaves them."""

from piccolo.columns import JSONB, UUID, Array, BigInt, Bytea, DoublePrecision, Integer, Text, Timestamptz
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


class Plan(Table, db=DB, schema=SCHEMA, tablename="plan"):
    """Stored plans: a row for each, its units as arrays, an entry a player unit; the order of ids is that of time.

    `request` is what was asked, `score_parts` has a row for each part of a score, `size` says how many numbers the plan
    holds. Two indexes that Piccolo cannot express: a unique one on `(owner_id, key)`, by which a plan is kept once
    however often that is tried, and one on `(owner_id, id)`, which pages through an owner's plans.
    """

    id = UUID(primary_key=True, default=None)
    owner_id = Text(default=None)
    key = Text(default=None)
    request_hash = Bytea(default=None)
    request = JSONB(default=None)
    targets = Array(Integer(default=None), default=None)
    throttles = JSONB(default=None)
    score_parts = Array(DoublePrecision(default=None), default=None)
    lower_bounds = Array(DoublePrecision(default=None), default=None)
    final_speeds = Array(DoublePrecision(default=None), default=None)
    distances_covered = Array(DoublePrecision(default=None), default=None)
    strategy = Text(default=None)
    seed = Integer(default=None, null=True)
    size = Integer(default=None)
    attempts = BigInt(default=None)
    created_at = Timestamptz(default=None)
