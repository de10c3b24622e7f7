"""A learner and an actor so small that a whole demo takes less than a minute on two cores."""

from __future__ import annotations

from pathlib import Path

from robot.observation import STATE_UNIT

LEARNER = f"""
device = "cpu"
[spec]
task = "reach"
action_names = ["x", "y"]
action_scale = [0.0225, 0.0225]
control_hz = 10.0
max_steps = 6
[[spec.observations]]
name = "image.front"
dtype = "uint8"
shape = [32, 32, 3]
unit = "RGB"
[[spec.observations]]
name = "state"
dtype = "float32"
shape = [8]
unit = "{STATE_UNIT}"
[algorithm]
encoder = "spatial_softmax"
conv_channels = 4
latent_size = 8
mlp_size = 16
state_hidden = 16
num_q = 3
horizon = 2
shift_px = 1
[algorithm.planner]
num_samples = 16
num_elites = 4
iterations = 1
[trainer]
num_pretrain_updates = 10
updates_per_trial = 3
updates_per_step = "none"
batch_size = 4
log_every_updates = 2
is_tensorboard_on = false
num_threads = 1
[limits]
reserve_mib = 64
"""

ACTOR = """
actor_id = "tiny"
wait_weights_s = 60.0
num_threads = 1
reserve_bytes = 1000000
[sim]
task = "reach"
image_size = 32
render_size = 64
max_steps = 6
"""


def write_configs(folder: Path) -> tuple[Path, Path]:
    """Writes learner.toml and actor.toml and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    learner, actor = folder / "learner.toml", folder / "actor.toml"
    learner.write_text(LEARNER)
    actor.write_text(ACTOR)
    return learner, actor
