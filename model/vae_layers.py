"""The decoder's layers on a CPU: diffusers' weights and arithmetic, four times as fast.

PyTorch takes oneDNN for a convolution only where it looks large enough to be worth it, which one video's is not, and
sums squares over channels fastest where those lie side by side. Nothing here is chosen by how many videos there are:
each gets the same bits whatever others are decoded with it.
"""

import itertools

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanRMS_norm,
    WanUpsample,
)
from torch.nn import functional as F

SMALLEST_LENGTH = 1e-12
"""Of a pixel's channels, where they are normalised: F.normalize()'s own."""


def use_own_layers(vae: AutoencoderKLWan) -> None:
    """For what decodes in an autoencoder in float32 that stays on the CPU. Nothing where PyTorch lacks oneDNN."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in itertools.chain(vae.post_quant_conv.modules(), vae.decoder.modules()):
        # The class alone changes: weights, their names and the module's place stay.
        match module:
            case WanCausalConv3d():
                module.__class__ = CausalConvolution
                _lay_channels_side_by_side(module.weight, torch.channels_last_3d)
            case torch.nn.Conv2d():
                module.__class__ = FrameConvolution
                _lay_channels_side_by_side(module.weight, torch.channels_last)
            case WanRMS_norm():
                module.__class__ = ChannelNorm
            case torch.nn.SiLU():
                # Of a norm's outcome, which nobody else reads.
                module.inplace = True
            case WanUpsample():
                module.__class__ = Upsample


def has_own_layers(vae: AutoencoderKLWan) -> bool:
    return isinstance(vae.decoder.conv_in, CausalConvolution)


class CausalConvolution(WanCausalConv3d):
    """Sees the frames before by what is kept of them, and nothing of those after."""

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """x, b c f h w; cache_x: up to two frames before them."""
        width, _, height, _, num_before, _ = self._padding
        if cache_x is not None and num_before:
            x = torch.cat([cache_x, x], dim=2)
            num_before -= cache_x.shape[2]
        if num_before:
            x = F.pad(x, (0, 0, 0, 0, num_before, 0))
        padding = (0, height, width)
        return torch.mkldnn_convolution(x, self.weight, self.bias, padding, self.stride, self.dilation, self.groups)


class FrameConvolution(torch.nn.Conv2d):
    """Of every frame by itself."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  the stock one's name
        frames = _channels_side_by_side(input)
        # The stock one's padding may also be a word; here it is never.
        padding = [int(each) for each in self.padding]
        return torch.mkldnn_convolution(
            frames, self.weight, self.bias, padding, self.stride, self.dilation, self.groups
        )


class ChannelNorm(WanRMS_norm):
    """Every pixel's channels at a root mean square of one, then scaled. Wan's decoder has no bias here."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = _channels_side_by_side(x)
        length = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_min_(SMALLEST_LENGTH)
        return (x * (self.scale / length)).mul_(self.gamma)


class Upsample(WanUpsample):
    """Lays channels side by side before it, where frames were parted: after it there are four times as many pixels."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _channels_side_by_side(super().forward(_channels_side_by_side(x)))


def _channels_side_by_side(x: torch.Tensor) -> torch.Tensor:
    """In the one memory order in which all layers then work, however many videos there are.

    Of a single one attention leaves frames one channel after another, and a stride that PyTorch takes for such.
    """
    if x.stride(1) != 1:
        return x.contiguous(memory_format=torch.channels_last_3d if x.dim() == 5 else torch.channels_last)
    return x if len(x) > 1 else x.as_strided(x.shape, (x.numel(), *x.stride()[1:]))


def _lay_channels_side_by_side(weight: torch.Tensor, memory_format: torch.memory_format) -> None:
    """What comes out of the convolution then lies so too."""
    weight.data = weight.data.contiguous(memory_format=memory_format)
