"""The shape of Wan2.2-T2V-A14B, from the config files of its diffusers conversion."""

from model.describe import A14B
from model.shapes import CheckpointShape, TextShape, VaeShape

SHAPE = CheckpointShape(
    transformer=A14B,
    vae=VaeShape(
        base_dim=96,
        dim_mult=(1, 2, 4, 4),
        num_res_blocks=2,
        z_dim=16,
        out_channels=3,
        temporal_upsample=(True, True, False),
        spatial_stride=8,
        temporal_stride=4,
    ),
    text=TextShape(d_model=4096, num_layers=24, num_heads=64, d_kv=64, d_ff=10240),
    boundary_ratio=0.875,
    num_train_timesteps=1000,
)
