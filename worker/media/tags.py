"""What a file says about itself."""

from model.params import GenerationParams
from service.provenance.manifest import Generation
from service.provenance.notary import Notary

TITLE_CHARACTERS = 200


def tags(params: GenerationParams, *, model: str, fingerprint: str, asset_id: str) -> dict[str, str]:
    """Metadata tags: enough to make the same video again."""
    settings = {
        "title": params.prompt[:TITLE_CHARACTERS],
        "comment": f"AI-generated with {model} by wanserve",
        "model": model,
        "fingerprint": fingerprint,
        "prompt": params.prompt,
        "negative_prompt": params.negative_prompt,
        "native_size": f"{params.width}x{params.height}",
        "num_inference_steps": str(params.num_inference_steps),
        "guidance_scale": f"{params.guidance_scale:g}",
        "guidance_scale_2": f"{params.guidance_scale_2:g}",
        "flow_shift": f"{params.flow_shift:g}",
        "seed": str(params.seed),
        "asset_id": asset_id,
    }
    return {key: value for key, value in settings.items() if value}


def generation_of(
    notary: Notary,
    params: GenerationParams,
    *,
    model: str,
    fingerprint: str,
    revision: str | None,
    asset_id: str,
    parent_asset_id: str | None = None,
    is_watermarked: bool = False,
) -> Generation:
    """The same, for the signature: everything that changes pixels, and of the prompts a keyed hash."""
    parameters = {
        "width": params.width,
        "height": params.height,
        "num_frames": params.num_frames,
        "fps": params.fps,
        "num_inference_steps": params.num_inference_steps,
        "guidance_scale": params.guidance_scale,
        "guidance_scale_2": params.guidance_scale_2,
        "flow_shift": params.flow_shift,
        "seed": params.seed,
    }
    return notary.generation(
        asset_id=asset_id,
        model=model,
        fingerprint=fingerprint,
        revision=revision,
        parameters=parameters,
        prompts=(params.prompt, params.negative_prompt),
        parent_asset_id=parent_asset_id,
        is_watermarked=is_watermarked,
    )
