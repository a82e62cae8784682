"""The sequencer's part of the schema."""

from api_server.graphql.part import GraphQLPart
from strawberry.tools import merge_types

from throttling_sequencer.api.graphql.queries import ThrottleQuery
from throttling_sequencer.api.graphql.request_log import RequestLog, RequestLogQuery
from throttling_sequencer.api.graphql.scenarios import ScenarioQuery, ScenarioSubscription
from throttling_sequencer.api.graphql.stored_plans import StoredPlanMutation, StoredPlanQuery
from throttling_sequencer.api.graphql.subscriptions import NavigationSubscription

_QUERIES = (ThrottleQuery, StoredPlanQuery, RequestLogQuery)


def sequencer_part(*, with_scenarios: bool) -> GraphQLPart:
    """Return the part; scenarios are for a service that can keep them."""
    return GraphQLPart(
        query=merge_types("SequencerQuery", (*_QUERIES, ScenarioQuery) if with_scenarios else _QUERIES),
        mutation=StoredPlanMutation,
        subscription=merge_types("SequencerSubscription", (NavigationSubscription, ScenarioSubscription))
        if with_scenarios
        else NavigationSubscription,
        extensions=(RequestLog,),
    )
