"""What `wanserve doctor` looks at where a worker runs: device, checkpoint, codec, font. The entry point is CHECKS."""

import tempfile
from pathlib import Path

from service.checkup import Finding, Health
from service.settings import Settings


def _device(settings: Settings) -> Finding:
    import torch

    from model.loader import choose_device

    try:
        device = choose_device(settings.device)
    except ValueError as e:
        return Finding("device", Health.FAIL, str(e), "Set WANSERVE_DEVICE to one that is there, or to auto.")
    if device.type != "cuda":
        fix = "" if settings.checkpoint == "embedded" else "A14B takes hours on a CPU: run it where a CUDA device is."
        return Finding("device", Health.WARN if fix else Health.OK, f"{device}, {torch.get_num_threads()} threads", fix)
    free, total = torch.cuda.mem_get_info(device)
    seen = f"{torch.cuda.get_device_name(device)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
    return Finding("device", Health.OK, seen)


def _checkpoint(settings: Settings) -> Finding:
    from model.describe import read_card
    from model.errors import CheckpointError
    from model.folder import open_folder

    try:
        card = read_card(open_folder(settings.checkpoint))
    except CheckpointError as e:
        fix = "Set WANSERVE_CHECKPOINT to a whole diffusers folder of Wan2.2."
        return Finding("checkpoint", Health.FAIL, str(e), fix)
    return Finding("checkpoint", Health.OK, f"{card.id}, fingerprint {card.fingerprint[:16]}")


def _codec(settings: Settings) -> Finding:
    """Encodes a clip with every mark and reads it again."""
    import av
    import numpy as np

    from worker.media.encode import save_mp4

    frames = np.full((3, 64, 96, 3), 128, np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        save_mp4(frames, 8, path)
        with av.open(str(path)) as container:
            num_frames = sum(1 for _ in container.decode(video=0))
    if num_frames != len(frames):
        return Finding("codec", Health.FAIL, f"{num_frames} of 3 frames came back", "Install PyAV's own wheel again.")
    return Finding("codec", Health.OK, f"H.264 by PyAV {av.__version__}: written and read")


def _font(settings: Settings) -> Finding:
    import numpy as np

    from service.jobs.record import VisibleLabel
    from worker.media.overlay import draw_label

    frames = np.zeros((1, 256, 256, 3), np.uint8)
    draw_label(frames, VisibleLabel(text="AI生成"), fps=8)
    if not frames.any():
        return Finding("font", Health.FAIL, "labels stay empty", "Install pylopdf-fonts-zh-cn again.")
    return Finding("font", Health.OK, "Noto Sans SC draws 生成")


CHECKS = (("device", _device), ("checkpoint", _checkpoint), ("codec", _codec), ("font", _font))
