"""Where training computes in bfloat16: only on processors that multiply it in hardware (x86 with AVX-512 BF16).

Elsewhere PyTorch converts number by number, some seventy times slower than float32.
"""

import torch

IS_BF16_FAST: bool = torch.cpu._is_avx512_bf16_supported()
PRODUCT_DTYPE = torch.bfloat16 if IS_BF16_FAST else torch.float32
"""Of the large products of a training step; parameters and sums stay float32."""


def autocast() -> torch.autocast:
    """Convolutions and products inside run in PRODUCT_DTYPE."""
    return torch.autocast("cpu", torch.bfloat16, enabled=IS_BF16_FAST)
