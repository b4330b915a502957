"""The numbers of a checkpoint's config files that the engine needs. Knows no torch and no file."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TransformerShape:
    """One expert: diffusers' WanTransformer3DModel config."""

    num_layers: int
    num_heads: int
    head_dim: int
    ffn_dim: int
    text_dim: int
    freq_dim: int
    in_channels: int
    out_channels: int
    patch_size: tuple[int, int, int]
    rope_max_seq_len: int

    @property
    def dim(self) -> int:
        return self.num_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class VaeShape:
    """The causal video autoencoder: diffusers' AutoencoderKLWan config."""

    base_dim: int
    """Of the decoder."""

    dim_mult: tuple[int, ...]
    num_res_blocks: int
    z_dim: int
    out_channels: int
    temporal_upsample: tuple[bool, ...]
    spatial_stride: int
    temporal_stride: int
    encoder_base_dim: int | None = None
    """None: the decoder's."""


@dataclass(frozen=True, slots=True)
class TextShape:
    """The text encoder: transformers' UMT5 config."""

    d_model: int
    num_layers: int
    num_heads: int
    d_kv: int
    d_ff: int

    max_tokens: int = 512
    """Tokens that reach the denoiser: Wan's text_len, whatever the tokenizer could do."""

    vocab_size: int = 256_384
    """UMT5's, as in all its sizes."""

    num_position_buckets: int = 32
    """Distances between tokens that attention tells apart."""


@dataclass(frozen=True, slots=True)
class CheckpointShape:
    """All parts of a two-expert Wan2.2 text-to-video checkpoint."""

    transformer: TransformerShape
    vae: VaeShape
    text: TextShape
    boundary_ratio: float
    """Timesteps at or above boundary_ratio * num_train_timesteps run the high-noise expert."""

    num_train_timesteps: int

    @property
    def size_stride(self) -> int:
        """Width and height are multiples of this many pixels."""
        return self.vae.spatial_stride * self.transformer.patch_size[1]

    @property
    def frame_stride(self) -> int:
        """A video has 1 + n * frame_stride frames."""
        return self.vae.temporal_stride

    @property
    def boundary_timestep(self) -> float:
        return self.boundary_ratio * self.num_train_timesteps

    def latent_shape(self, *, width: int, height: int, num_frames: int) -> tuple[int, int, int, int, int]:
        """b c f h w of one request's latents."""
        frames = (num_frames - 1) // self.vae.temporal_stride + 1
        stride = self.vae.spatial_stride
        return (1, self.transformer.in_channels, frames, height // stride, width // stride)
