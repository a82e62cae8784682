"""The sequencer's part of the schema."""

from api_server.graphql.part import GraphQLPart
from strawberry.tools import merge_types

from throttling_sequencer.api.graphql.queries import ThrottleQuery
from throttling_sequencer.api.graphql.request_log import RequestLog, RequestLogQuery
from throttling_sequencer.api.graphql.subscriptions import NavigationSubscription

SEQUENCER_PART = GraphQLPart(
    query=merge_types("SequencerQuery", (ThrottleQuery, RequestLogQuery)),
    subscription=NavigationSubscription,
    extensions=(RequestLog,),
)
