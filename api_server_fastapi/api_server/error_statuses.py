"""Which HTTP status answers each error that the foundation raises; the errors themselves know no HTTP."""

from collections.abc import Mapping

from api_server.exceptions import (
    DatabaseUnavailableError,
    IdentityUnavailableError,
    InvalidFieldsError,
    InvalidValueError,
    NotAllowedError,
    NotAuthenticatedError,
    ResourceExistsError,
    ResourceNotFoundError,
    TooManyRequestsError,
    VersionConflictError,
)

ERROR_STATUSES: Mapping[type[Exception], int] = {
    DatabaseUnavailableError: 503,
    IdentityUnavailableError: 503,
    InvalidFieldsError: 422,
    InvalidValueError: 422,
    NotAllowedError: 403,
    NotAuthenticatedError: 401,
    ResourceExistsError: 409,
    ResourceNotFoundError: 404,
    TooManyRequestsError: 429,
    VersionConflictError: 409,
}
