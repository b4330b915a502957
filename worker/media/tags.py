"""What a file says about itself."""

from model.params import GenerationParams

TITLE_CHARACTERS = 200


def tags(params: GenerationParams, *, model: str, fingerprint: str, asset_id: str) -> dict[str, str]:
    """Metadata tags: enough to make the same video again. asset_id: "" for a file that no service stored."""
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
