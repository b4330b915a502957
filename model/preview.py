"""Pictures of a request under way without decoding: a linear map from latent channels to colours, fitted to the VAE."""

import json
import logging
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from numpy.typing import NDArray
from torch.nn import functional as F

from model.errors import CheckpointError
from model.json_file import JsonFile

FILE_NAME = "preview.json"
NUM_IMAGES, SIDE_PIXELS, PATCHES = 16, 128, 4

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreviewMap:
    """colour = latents weights + bias, in levels 0..255."""

    weights: tuple[tuple[float, float, float], ...]
    """One row a latent channel."""

    bias: tuple[float, float, float]

    def pixels(self, latents: torch.Tensor) -> NDArray[np.uint8]:
        """f h w 3 of latents 1 c f h w: a pixel for every latent site."""
        sites = latents[0].float().cpu().permute(1, 2, 3, 0)
        colours = sites @ torch.tensor(self.weights) + torch.tensor(self.bias)
        return colours.clamp(0, 255).round().to(torch.uint8).numpy()


@torch.inference_mode()
def fit_preview(vae: AutoencoderKLWan, images: torch.Tensor) -> PreviewMap:
    """Least squares over images n 3 h w in -1..1, each seen as a video of one frame."""
    mean, std = (torch.tensor(v).view(-1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    sites, colours = [], []
    for image in images.split(1):
        encoded = vae.encode(image.to(vae.device, vae.dtype)[:, :, None]).latent_dist.mode()[0]
        latents = (encoded.float().cpu() - mean) / std
        sites.append(latents.flatten(1).T)
        small = F.interpolate(image.float().cpu(), size=latents.shape[-2:], mode="area")
        colours.append(small[0].flatten(1).T * 127.5 + 127.5)
    known = torch.cat(sites)
    # A little weight decay: a small VAE's images may not move every channel.
    system = torch.cat([F.pad(known, (0, 1), value=1.0), F.pad(torch.eye(known.shape[1]), (0, 1))])
    targets = F.pad(torch.cat(colours), (0, 0, 0, known.shape[1]))
    solution = torch.linalg.lstsq(system.double(), targets.double()).solution.tolist()
    # Rounded, so that the same VAE gets the same map on every machine.
    rows = [(round(r, 3), round(g, 3), round(b, 3)) for r, g, b in solution]
    return PreviewMap(weights=tuple(rows[:-1]), bias=rows[-1])


def open_preview(folder: Path, vae: AutoencoderKLWan) -> PreviewMap:
    """The map that lies beside the checkpoint; where there is none, fits one and leaves it there.

    Raises CheckpointError for a broken file.
    """
    if (folder / FILE_NAME).is_file():
        return _read(folder / FILE_NAME, num_channels=vae.config.z_dim)
    preview = fit_preview(vae, colour_fields())
    try:
        write_preview(folder, preview)
    except OSError as e:
        log.info("The preview map is kept in memory only: %s", e)
    return preview


def write_preview(folder: Path, preview: PreviewMap) -> None:
    # Renamed into place: another worker that starts meanwhile must not read half of it.
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=FILE_NAME, delete=False, encoding="utf-8") as draft:
        draft.write(json.dumps(asdict(preview), indent=1) + "\n")
    Path(draft.name).chmod(0o644)
    Path(draft.name).replace(folder / FILE_NAME)


def colour_fields() -> torch.Tensor:
    """Images of soft patches in all colours, always the same ones  # n 3 h w in -1..1"""
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(NUM_IMAGES, 3, PATCHES, PATCHES, generator=generator) * 2 - 1
    return F.interpolate(patches, size=SIDE_PIXELS, mode="bicubic", align_corners=False).clamp(-1, 1)


def _read(file: Path, *, num_channels: int) -> PreviewMap:
    content = JsonFile(file)
    try:
        table = np.array([*content.value("weights"), content.value("bias")], dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise CheckpointError(f"{file} is broken ({e}): delete it, and it is made anew.") from e
    if table.shape != (num_channels + 1, 3) or not np.isfinite(table).all():
        raise CheckpointError(
            f"{file} must hold {num_channels} rows of three numbers and a bias: delete it, and it is made anew."
        )
    rows = [(float(r), float(g), float(b)) for r, g, b in table]
    return PreviewMap(weights=tuple(rows[:-1]), bias=rows[-1])
