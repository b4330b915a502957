"""What the engine raises.

EngineError
├── CheckpointError   the folder can't be served: a file is missing, broken or of the wrong kind
├── InvalidParams     this checkpoint can't make what was asked for
├── InvalidState      a saved request can't be resumed here
├── NotFinite         the numbers overflowed on the way
├── OutOfMemory       the device is too small for this request
└── Cancelled         the caller asked to stop
"""

from typing import ClassVar


class EngineError(Exception):
    """Base of everything that the engine raises on purpose."""

    code: ClassVar[str]
    """For programs, and the same in every version; the message is for people."""


class CheckpointError(EngineError):
    """The checkpoint folder can't be served; the message names the file and what to do."""

    code = "invalid_checkpoint"


class InvalidParams(EngineError):
    """This checkpoint can't make what was asked for; the message names the parameter and what is legal."""

    code = "invalid_request"


class InvalidState(EngineError):
    """A saved request is broken, or of another version, checkpoint or dtype; the message says which."""

    code = "invalid_state"


class NotFinite(EngineError):
    """The latents hold NaN or infinity; the message says since which step, and what to try."""

    code = "generation_failed"


class OutOfMemory(EngineError):
    """The device has too little memory for this request; retry it smaller or on a larger device."""

    code = "out_of_memory"


class Cancelled(EngineError):
    """should_cancel() answered True; nothing is left behind."""

    code = "cancelled"
