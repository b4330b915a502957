"""How the embedded checkpoint is made: a small world, its renderer and captions, training, judging.

Nothing in the service imports this package; `make train-embedded` and `make evaluate-embedded` run it.
"""
