"""The causal VAE in training: whole clips in one pass, equal to diffusers' chunk-by-chunk path."""

from types import MethodType
from typing import Any

import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanRMS_norm
from torch import Tensor, nn
from torch.nn import functional as F

CONFIG = {
    "base_dim": 8,
    "decoder_base_dim": 8,
    "z_dim": 16,
    "dim_mult": [1, 2, 4, 6],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True, True],
}
Z_CHANNELS = 16


def new_autoencoder() -> AutoencoderKLWan:
    """Random weights that start close to a per-frame codec, which is what makes a short training possible."""
    vae = AutoencoderKLWan(**CONFIG)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                _initialise(name, module)
        vae.quant_conv.weight[Z_CHANNELS:] *= 0.1
        vae.quant_conv.bias[Z_CHANNELS:] = -7.0  # log-variance: almost deterministic at first
    return for_training(vae)


def for_training(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Teach the vae's resamplers to take a whole clip when no feature cache is given, and its layers to be quick."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            module.forward = MethodType(_resample, module)
        elif isinstance(module, WanRMS_norm):
            module.forward = MethodType(_normalise, module)
        elif isinstance(module, WanCausalConv3d):
            module.forward = MethodType(_convolve, module)
    return vae


def encode(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Posterior mean and log-variance of clips (b 3 f h w) in [-1, 1]  # b 16 f h w each"""
    moments = vae.quant_conv(vae.encoder(clips)).float()
    mean, log_variance = moments.chunk(2, dim=1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Clips (b 3 f h w), not clamped, of unnormalised latents (b 16 f h w)."""
    return vae.decoder(vae.post_quant_conv(latents)).float()


def latent_statistics(vae: AutoencoderKLWan) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation from the config, shaped to broadcast over latents (b 16 f h w)."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    return mean, std


def _initialise(name: str, conv: nn.Conv2d | nn.Conv3d) -> None:
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]  # every convolution of the VAE has one
    if name.endswith("time_conv"):
        # A time convolution starts as "hold the newest frame".
        nn.init.normal_(conv.weight, std=0.01)
        for out in range(conv.out_channels):
            conv.weight[out, out % conv.in_channels, -1, 0, 0] += 1.0
    elif conv.weight.dim() == 5:
        # Only the newest time tap is non-zero: the causal past is learned later.
        fan_in = conv.in_channels * conv.kernel_size[1] * conv.kernel_size[2]
        nn.init.zeros_(conv.weight)
        conv.weight[:, :, -1].normal_(0, fan_in**-0.5)
        if name.endswith("conv2"):
            conv.weight.mul_(0.4)
    else:
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")


def _resample(self: WanResample, x: Tensor, feat_cache: object = None, feat_idx: object = None) -> Tensor:
    if feat_cache is not None:
        return WanResample.forward(self, x, feat_cache, feat_idx)
    b, c, f, h, w = x.shape
    if self.mode == "upsample3d" and f > 1:
        # The first latent frame stands for one frame, every later one for several.
        later = self.time_conv(x[:, :, 1:]).view(b, 2, c, f - 1, h, w)
        later = torch.stack((later[:, 0], later[:, 1]), dim=3).view(b, c, 2 * (f - 1), h, w)
        x = torch.cat([x[:, :, :1], later], dim=2)
        f = x.shape[2]
    x = self.resample(x.permute(0, 2, 1, 3, 4).reshape(b * f, c, h, w))
    x = x.view(b, f, *x.shape[1:]).permute(0, 2, 1, 3, 4)
    if self.mode == "downsample3d" and f > 1:
        x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
    return x


def _convolve(self: WanCausalConv3d, x: Tensor, cache_x: Tensor | None = None) -> Tensor:
    """Pads in time alone, and what the product is computed in: the convolution pads in space by itself."""
    if cache_x is not None:
        return WanCausalConv3d.forward(self, x, cache_x)
    width, _, height, _, num_before, _ = self._padding
    if torch.is_autocast_enabled("cpu"):
        x = x.to(torch.get_autocast_dtype("cpu"))
    if num_before:
        b, c, _, h, w = x.shape
        before = x.new_zeros(b, c, num_before, h, w).contiguous(memory_format=torch.channels_last_3d)
        x = torch.cat([before, x], dim=2)
    return F.conv3d(x, self.weight, self.bias, self.stride, (0, height, width), self.dilation)


def _normalise(self: WanRMS_norm, x: Tensor) -> Tensor:
    y: Tensor = _ChannelNorm.apply(x, self.gamma)
    return y


class _ChannelNorm(torch.autograd.Function):
    """Wan's norm over channels, in float32: every pixel at a root mean square of one, then scaled; x b c ….

    Sums over channels, and what spreads over them, are matrix products: PyTorch is slow along so short an axis.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor) -> Tensor:
        pixels, scale = _pixels(x), gamma.flatten()
        squares = pixels.square().mv(torch.ones_like(scale)).clamp_min_(SMALLEST_SQUARE)
        inverse = squares.div_(len(scale)).rsqrt_()
        factor = inverse[:, None] @ scale[None]
        ctx.save_for_backward(pixels, scale, inverse, factor)
        ctx.shape = gamma.shape
        return _channels(pixels * factor, like=x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        pixels, scale, inverse, factor = ctx.saved_tensors
        rows = _pixels(gradient)
        product = rows * pixels
        # y = gamma x / r, r² = mean(x²): dx = (gamma g - x mean(gamma g x) / r²) / r
        # One by one: the cube of what an empty pixel has would be infinite.
        along = product.mv(scale).mul_(inverse).mul_(inverse).mul_(inverse).div_(-len(scale))
        change = (along[:, None] @ torch.ones_like(scale)[None]).mul_(pixels).addcmul_(rows, factor)
        return _channels(change, like=gradient), product.t().mv(inverse).view(ctx.shape)


SMALLEST_SQUARE = 1e-24
"""Of a pixel's channels, summed up: the stock norm's own."""


def _pixels(x: Tensor) -> Tensor:
    """b c … → n c, a view where channels lie side by side."""
    return x.movedim(1, -1).reshape(-1, x.shape[1]).float()


def _channels(pixels: Tensor, *, like: Tensor) -> Tensor:
    """n c → b c …"""
    return pixels.view(*like.movedim(1, -1).shape).movedim(-1, 1)
