"""What one generation is asked to make, in the field's own names. What is legal, the card says."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationParams:
    """Everything that changes the pixels of a video, apart from the checkpoint itself."""

    prompt: str
    """Any language the text encoder knows; cut at the checkpoint's token limit."""

    negative_prompt: str = ""
    """What to steer away from; unused where guidance is off."""

    width: int
    """Pixels, a multiple of the card's size_stride."""

    height: int
    """Pixels, a multiple of the card's size_stride."""

    num_frames: int
    """1 + n * the card's frame_stride."""

    fps: int
    """Frames per second of the finished file. The denoiser does not see it."""

    num_inference_steps: int
    """Denoising steps over both experts."""

    guidance_scale: float
    """Classifier-free guidance of the high-noise expert; at most 1 turns guidance off there."""

    guidance_scale_2: float
    """Classifier-free guidance of the low-noise expert; at most 1 turns guidance off there."""

    flow_shift: float
    """Larger means more of the steps at high noise."""

    seed: int
    """0 <= seed < 2**63. The same seed gives the same noise on every device."""
