"""`make train-embedded`: the embedded checkpoint from nothing, stage by stage; an interrupted run goes on."""

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from model.tiny import autoencoder, denoiser
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
    name = "short" if args.short else "full"
    _claim(args.work, name)
    for stage_name, stage in STAGES.items():
        _run(args.work, stage_name, stage, PLANS[name])
    export(args.work, args.out)
    print(f"checkpoint in {args.out}; next: make evaluate-embedded")


def _claim(work: Path, name: str) -> None:
    """Begin a training in the folder, or go on with the one it holds: only by the same plan, for the same networks."""
    file, networks = work / "plan.json", {"autoencoder": autoencoder.CONFIG, "denoiser": denoiser.CONFIG}
    plan = json.loads(json.dumps({"name": name, **asdict(PLANS[name]), **networks}))
    if not file.exists() and not (work / "done").exists():
        work.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(plan))
    held = json.loads(file.read_text()) if file.exists() else {"name": name}
    if held["name"] != name:
        raise SystemExit(f"{work} holds a {held['name']} training, this is a {name} one: give --work another folder.")
    if held != plan:
        raise SystemExit(f"{work} holds a training by another version's plan: remove it or give --work another folder.")


def _run(work: Path, name: str, stage: Stage, plan: Plan) -> None:
    """Run a stage unless its marker says that it is done; the marker holds the seconds it took."""
    marker = work / "done" / f"{name}.json"
    if marker.exists():
        print(f"{name}: done before", flush=True)
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    print(f"{name}: starts", flush=True)
    with Stopwatch(marker.with_suffix(".seconds")) as watch:
        stage(work, plan)
    marker.write_text(json.dumps({"seconds": round(watch.seconds)}))
    print(f"{name}: {watch.seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
