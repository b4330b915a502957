"""`make train-embedded`: the embedded checkpoint from nothing, stage by stage; an interrupted run goes on."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from model.tiny.export import export
from model.tiny.latents import encode_latents
from model.tiny.plan import FULL, SHORT, Plan
from model.tiny.stopwatch import Stopwatch
from model.tiny.tokenizer import train_tokenizer
from model.tiny.train_denoiser import train_high_expert, train_low_expert, train_shared
from model.tiny.train_text import train_text_encoder
from model.tiny.train_vae import train_autoencoder

Stage = Callable[[Path, Plan], None]
PLANS = {"full": FULL, "short": SHORT}
STAGES: dict[str, Stage] = {
    "autoencoder": train_autoencoder,
    "latents": encode_latents,
    "tokenizer": train_tokenizer,
    "text_encoder": train_text_encoder,
    "denoiser": train_shared,
    "high_expert": train_high_expert,
    "low_expert": train_low_expert,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m model.tiny.train", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".training"), help="progress and intermediate results")
    parser.add_argument("--out", type=Path, default=Path("model/embedded"), help="the finished checkpoint")
    parser.add_argument("--short", action="store_true", help="a few steps a stage: proves the path, draws noise")
    args = parser.parse_args()
    for name, stage in STAGES.items():
        _run(args.work, name, stage, "short" if args.short else "full")
    export(args.work, args.out)
    print(f"checkpoint in {args.out}; next: make evaluate-embedded")


def _run(work: Path, name: str, stage: Stage, plan: str) -> None:
    """Run a stage unless its marker says that it is done; the marker holds the seconds it took, and by which plan."""
    marker = work / "done" / f"{name}.json"
    if marker.exists():
        if (done := json.loads(marker.read_text()).get("plan")) != plan:
            raise SystemExit(f"{work} holds a {done} training, this is a {plan} one: give --work another folder.")
        print(f"{name}: done before", flush=True)
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name}: starts", flush=True)
    with Stopwatch(marker.with_suffix(".seconds")) as watch:
        stage(work, PLANS[plan])
    marker.write_text(json.dumps({"plan": plan, "seconds": round(watch.seconds)}))
    print(f"{name}: {watch.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
