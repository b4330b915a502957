"""Everything that wanserve raises on purpose. Knows no HTTP framework: http_status is just a number.

ServiceError                    code, http_status, retryable, param, message, retry_after_seconds
├── InvalidRequest              400 invalid_request          the caller must change the request
│   ├── NotSupported            400 not_supported            no model here can do that
│   ├── ModerationBlocked       400 moderation_blocked       the prompt asks for what is not made here
│   ├── BodyTooLarge            413 body_too_large
│   ├── RangeNotSatisfiable     416 range_not_satisfiable    the Range lies outside the file
│   └── IdempotencyMismatch     422 idempotency_key_reused   same key, other body
├── Unauthorized                401 unauthorized             who asks is not known
│   ├── MissingApiKey           401 missing_api_key          no key came, and one is needed
│   └── InvalidApiKey           401 invalid_api_key          malformed, not known here, or revoked
├── Forbidden                   403 forbidden                a cross-site request, a bad or old link
│   └── ScopeMissing            403 insufficient_scope       the key is good, but not for this
├── NotFound                    404 not_found
│   ├── VideoNotFound           404 video_not_found
│   ├── ReplayedVideoDeleted    404 replayed_video_deleted   the key's video was deleted since
│   ├── ModelNotFound           404 model_not_found
│   ├── TenantNotFound          404 tenant_not_found
│   ├── KeyNotFound             404 api_key_not_found        no key has this id
│   ├── EndpointNotFound        404 webhook_endpoint_not_found
│   ├── DeliveryNotFound        404 delivery_not_found
│   ├── BatchNotFound           404 batch_not_found
│   └── ObjectNotFound          404 file_not_found           no such file, or the record is there and its file is not
├── Conflict                    409 conflict
│   └── VideoNotReady           409 video_not_ready          no file to download (yet)
├── TenantQueueFull             429 tenant_queue_full        the tenant has as many jobs waiting or running as it may
├── BudgetExceeded              429 budget_exceeded          the tenant's GPU seconds of the day are used up
├── TooManyRequests             429 rate_limited             the key asks more often than it may
├── TooManyStreams              429 too_many_streams         as many event streams are open as may be
├── ReceiverUnreachable         502 receiver_unreachable     a webhook's receiver does not reply, or must not be asked
├── RecordUnreadable            500 record_unreadable        a record that was damaged, or that another version wrote
│   └── RecordTooNew            500 record_unreadable        that a newer version wrote
├── RemoteError                 502 remote_error             a server that the command line asked refuses; its words
│   └── ServerUnreachable       502 server_unreachable       it does not answer, or can't now
├── Unavailable                 503 unavailable              retry later, with the same Idempotency-Key
│   ├── QueueUnavailable        503 queue_unavailable        Redis does not answer
│   │   └── QueueRefused        503 queue_unavailable        Redis answers that it did nothing
│   ├── QueueFull               503 queue_full
│   ├── StorageUnavailable      503 storage_unavailable      the object store does not answer
│   ├── FilterUnavailable       503 filter_unavailable       the other classifier does not answer, and none may pass
│   ├── MetricsUnavailable      503 metrics_unavailable      Prometheus does not answer the status page
│   └── NoModel                 503 no_model                 no worker has ever registered a model
└── StartupError                500 startup_failed           the process can't start; says what to do
    ├── SettingsError           500 invalid_settings
    └── EmbeddedServerError     500 embedded_server_failed
"""

from typing import ClassVar


class ServiceError(Exception):
    """Base of the tree. str(error) is a sentence for the person who made the request."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        """The request field at fault."""
        self.retry_after_seconds = retry_after_seconds


class InvalidRequest(ServiceError):
    code = "invalid_request"
    http_status = 400


class NotSupported(InvalidRequest):
    code = "not_supported"


class ModerationBlocked(InvalidRequest):
    code = "moderation_blocked"

    def __init__(self, message: str, *, param: str, category: str) -> None:
        super().__init__(message, param=param)
        self.category = category


class BodyTooLarge(InvalidRequest):
    code = "body_too_large"
    http_status = 413


class RangeNotSatisfiable(InvalidRequest):
    code = "range_not_satisfiable"
    http_status = 416

    def __init__(self, message: str, *, size_bytes: int) -> None:
        super().__init__(message, param="Range")
        self.size_bytes = size_bytes
        """Of the whole file, for the reply's Content-Range."""


class IdempotencyMismatch(InvalidRequest):
    code = "idempotency_key_reused"
    http_status = 422


class Unauthorized(ServiceError):
    code = "unauthorized"
    http_status = 401


class MissingApiKey(Unauthorized):
    code = "missing_api_key"


class InvalidApiKey(Unauthorized):
    code = "invalid_api_key"


class Forbidden(ServiceError):
    code = "forbidden"
    http_status = 403


class ScopeMissing(Forbidden):
    code = "insufficient_scope"


class NotFound(ServiceError):
    code = "not_found"
    http_status = 404


class VideoNotFound(NotFound):
    code = "video_not_found"


class ReplayedVideoDeleted(NotFound):
    code = "replayed_video_deleted"


class ModelNotFound(NotFound):
    code = "model_not_found"


class TenantNotFound(NotFound):
    code = "tenant_not_found"


class KeyNotFound(NotFound):
    code = "api_key_not_found"


class EndpointNotFound(NotFound):
    code = "webhook_endpoint_not_found"


class ReviewNotFound(NotFound):
    code = "review_not_found"


class DeliveryNotFound(NotFound):
    code = "delivery_not_found"


class BatchNotFound(NotFound):
    code = "batch_not_found"


class ObjectNotFound(NotFound):
    code = "file_not_found"


class Conflict(ServiceError):
    code = "conflict"
    http_status = 409


class VideoNotReady(Conflict):
    code = "video_not_ready"


class TenantQueueFull(ServiceError):
    code = "tenant_queue_full"
    http_status = 429
    retryable = True


class BudgetExceeded(ServiceError):
    code = "budget_exceeded"
    http_status = 429
    retryable = True


class TooManyRequests(ServiceError):
    code = "rate_limited"
    http_status = 429
    retryable = True


class TooManyStreams(ServiceError):
    code = "too_many_streams"
    http_status = 429
    retryable = True


class ReceiverUnreachable(ServiceError):
    code = "receiver_unreachable"
    http_status = 502


class RecordUnreadable(ServiceError):
    code = "record_unreadable"
    http_status = 500


class RecordTooNew(RecordUnreadable):
    """Another version of this program reads it."""


class RemoteError(ServiceError):
    code = "remote_error"
    http_status = 502


class ServerUnreachable(RemoteError):
    code = "server_unreachable"


class Unavailable(ServiceError):
    code = "unavailable"
    http_status = 503
    retryable = True

    def __init__(self, message: str, *, param: str | None = None, retry_after_seconds: int = 5) -> None:
        super().__init__(message, param=param, retry_after_seconds=retry_after_seconds)


class QueueUnavailable(Unavailable):
    code = "queue_unavailable"


class QueueRefused(QueueUnavailable):
    """Redis refused a command before it changed anything."""


class QueueFull(Unavailable):
    code = "queue_full"


class StorageUnavailable(Unavailable):
    code = "storage_unavailable"


class FilterUnavailable(Unavailable):
    code = "filter_unavailable"


class MetricsUnavailable(Unavailable):
    code = "metrics_unavailable"


class NoModel(Unavailable):
    code = "no_model"


class StartupError(ServiceError):
    code = "startup_failed"


class SettingsError(StartupError):
    code = "invalid_settings"


class EmbeddedServerError(StartupError):
    code = "embedded_server_failed"
