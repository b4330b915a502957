"""Everything that wanserve raises on purpose. Knows no HTTP framework: http_status is just a number.

ServiceError                    code, http_status, retryable, param, message, retry_after_seconds
├── InvalidRequest              400 invalid_request          the caller must change the request
│   ├── ModerationBlocked       400 moderation_blocked       the prompt asks for what is not made here
│   ├── BodyTooLarge            413 body_too_large
│   ├── RangeNotSatisfiable     416 range_not_satisfiable    the Range lies outside the file
│   └── IdempotencyMismatch     422 idempotency_key_reused   same key, other body
├── Forbidden                   403 forbidden                a cross-site request, a bad or old link
├── NotFound                    404 not_found
│   ├── VideoNotFound           404 video_not_found
│   ├── ReplayedVideoDeleted    404 replayed_video_deleted   the key's video was deleted since
│   ├── ModelNotFound           404 model_not_found
│   └── ObjectNotFound          404 file_not_found           the record is there, its file is not
├── Conflict                    409 conflict
│   └── VideoNotReady           409 video_not_ready          no file to download (yet)
├── Unavailable                 503 unavailable              retry later, with the same Idempotency-Key
│   ├── QueueUnavailable        503 queue_unavailable        Redis does not answer
│   │   └── QueueRefused        503 queue_unavailable        Redis answers that it did nothing
│   ├── QueueFull               503 queue_full
│   ├── StorageUnavailable      503 storage_unavailable      the object store does not answer
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


class ModerationBlocked(InvalidRequest):
    code = "moderation_blocked"


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


class Forbidden(ServiceError):
    code = "forbidden"
    http_status = 403


class NotFound(ServiceError):
    code = "not_found"
    http_status = 404


class VideoNotFound(NotFound):
    code = "video_not_found"


class ReplayedVideoDeleted(NotFound):
    code = "replayed_video_deleted"


class ModelNotFound(NotFound):
    code = "model_not_found"


class ObjectNotFound(NotFound):
    code = "file_not_found"


class Conflict(ServiceError):
    code = "conflict"
    http_status = 409


class VideoNotReady(Conflict):
    code = "video_not_ready"


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


class NoModel(Unavailable):
    code = "no_model"


class StartupError(ServiceError):
    code = "startup_failed"


class SettingsError(StartupError):
    code = "invalid_settings"


class EmbeddedServerError(StartupError):
    code = "embedded_server_failed"
