"""When a video will be there: a range, since nobody knows when the jobs that run now will end."""

from dataclasses import dataclass

from service.jobs.card import ModelCard
from service.jobs.fleet import Fleet
from service.jobs.record import VideoRecord


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds from now until it is completed, by the workers' own measurement of their speed."""

    earliest: float
    """As if every running job ended at once."""

    latest: float
    """As if every running job had just begun, each as long as this one."""

    @property
    def likely(self) -> float:
        """Running jobs are half done on average."""
        return (self.earliest + self.latest) / 2


def eta_of(record: VideoRecord, fleet: Fleet) -> Eta | None:
    """None when nothing is known: no live worker, no measured speed, a reviewer must decide first, or it has ended.

    The GPU seconds of the jobs ahead and of those that run are shared by all workers of the model; its own are not.
    """
    model = record.request.model
    num_workers = fleet.num_workers(model)
    card = next((card for card in fleet.cards if card.id == model), None)
    if record.is_terminal or record.review == "pending" or card is None or num_workers == 0:
        return None
    own = _own_seconds(record, card)
    if own is None:
        return None
    earliest = (record.seconds_ahead or 0) / num_workers + own * (1 - record.percent / 100)
    return Eta(earliest, earliest + (record.num_running or 0) * own / num_workers)


def _own_seconds(record: VideoRecord, card: ModelCard) -> float | None:
    request = record.request
    return card.estimated_seconds(
        width=request.width,
        height=request.height,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        rows_per_step=request.rows_per_step,
    )
