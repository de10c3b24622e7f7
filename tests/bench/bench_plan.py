"""One MPPI plan at the paper's size: the plain form against ours, in turns.

Run as `python -m tests.bench.bench_plan` for one line of JSON a row; `make bench` prints the same
rows with all others. The networks are trained for a moment on a point that reaches, see
`point_reach.py`; encoding the frame (0.03 of 76 GFLOP) is left out on both sides.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from learner.algorithms.fowm import FowmAlgorithm, FowmConfig
from learner.capture import StaticCall
from learner.mppi import PlanDraws, PlanResult, draw_plan, plan
from learner.networks import set_execution
from learner.planner_config import PlannerConfig
from learner.pointwise import FusedSteps
from learner.world_model import ActorModel
from tests.bench import point_reach
from tests.bench.interleaved import Comparison, compare, machine, one_thread, time_in_turns
from tests.bench.row import Row
from tests.learner import plain_fowm

BASELINE = "plain"
Plan = Callable[[Tensor, PlanDraws], PlanResult]


def make_plan(
    algorithm: FowmAlgorithm,
    device: torch.device,
    *,
    search: str = "full",
    is_half: bool = False,
    is_fused: bool = False,
    is_recorded: bool = False,
) -> Plan:
    """Returns a planner on a copy of the networks."""
    model = ActorModel(algorithm.spec, algorithm.config)
    model.load_state_dict(algorithm.actor_tensors())
    model.to(device).requires_grad_(requires_grad=False)
    fused = FusedSteps.compiled() if is_fused else None
    for head in (model.dynamics, model.reward_head, model.pi, model.q):
        set_execution(head, torch.bfloat16 if is_half else None, fused=fused, convert=True)
    config = dataclasses.replace(algorithm.config.planner, search=search)
    mean = torch.zeros(1, algorithm.config.horizon, algorithm.spec.action_size, device=device)
    no_previous = torch.zeros(1, device=device)

    def run(z: Tensor, draws: PlanDraws) -> PlanResult:
        return plan(
            model,
            z,
            mean,
            no_previous,
            config,
            draws,
            discount=algorithm.config.discount,
            uncertainty_weight=algorithm.config.uncertainty_weight,
        )

    call = StaticCall(run, device) if is_recorded else run

    def without_gradient(z: Tensor, draws: PlanDraws) -> PlanResult:
        with torch.no_grad():
            return call(z, draws)

    return without_gradient


def measure_all(
    *,
    rounds: int,
    num_updates: int,
    uses_cpu_time: bool,
    with_compiler: bool,
    planner: PlannerConfig,
) -> list[Comparison]:
    """Times every way of planning from the same latents with the same random numbers."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = FowmConfig(state_normalisation="box", learning_rate=1e-3, planner=planner)
    algorithm = point_reach.train(config, num_updates=num_updates, size=64)
    states = torch.from_numpy(point_reach.start_states(rounds + 2))
    with torch.no_grad():
        latents = algorithm.model.encode({"state": states}).to(device)
    nets = plain_fowm.PlainHeads(algorithm.model).to(device)
    generator = torch.Generator(device).manual_seed(0)
    size = {"horizon": config.horizon, "num_actions": 4, "num_q": config.num_q}
    draws = [
        draw_plan(planner, generator=generator, is_eval=True, **size) for _ in range(rounds + 2)
    ]
    on_cpu = device.type == "cpu"
    plans = {"plan, all candidates, fp32": make_plan(algorithm, device)}
    plans["plan, all candidates, bf16"] = make_plan(algorithm, device, is_half=True)
    if on_cpu:
        plans["plan, pruned, fp32"] = make_plan(algorithm, device, search="pruned")
        plans["plan, pruned, bf16"] = make_plan(algorithm, device, is_half=True, search="pruned")
        if with_compiler:
            plans["plan, pruned, bf16, compiled"] = make_plan(
                algorithm, device, is_half=True, is_fused=True, search="pruned"
            )
    else:
        plans["plan, CUDA graph, fp32"] = make_plan(algorithm, device, is_recorded=True)
        plans["plan, CUDA graph, bf16"] = make_plan(
            algorithm, device, is_half=True, is_recorded=True
        )

    def plain(number: int) -> tuple[Tensor, ...]:
        return plain_fowm.plan(
            nets,
            latents[number : number + 1],
            None,
            planner,
            draws[number],
            is_first=True,
            horizon=config.horizon,
            gamma=config.discount,
            weight=config.uncertainty_weight,
        )

    def ours(run: Plan) -> Callable[[int], PlanResult]:
        return lambda number: run(latents[number : number + 1], draws[number])

    calls = {BASELINE: plain, **{name: ours(run) for name, run in plans.items()}}
    _check_same_numbers(plain, {k: v for k, v in calls.items() if "fp32" in k})
    times = time_in_turns(calls, rounds=rounds, uses_cpu_time=uses_cpu_time)
    targets = {
        "plan, all candidates, fp32": ">= 1.3" if on_cpu else "-",
        "plan, pruned, fp32": ">= 1.3" if on_cpu else "-",
        "plan, pruned, bf16": ">= 4",
        "plan, pruned, bf16, compiled": ">= 4",
        "plan, CUDA graph, fp32": ">= 8, <= 4 ms",
    }
    what = f"{planner.num_candidates} candidates, {planner.iterations} iterations"
    return compare(times, BASELINE, targets=targets, config=what)


def _check_same_numbers(plain: Callable, calls: dict[str, Callable]) -> None:
    expected = plain(0)[0]
    for name, call in calls.items():
        difference = float((call(0).action[0] - expected).abs().max())
        if difference > 1e-5:
            raise AssertionError(f"{name}: action differs by {difference:.1e} from the plain form")


def measure() -> list[Row]:
    """Returns the rows of `make bench`."""
    with one_thread() as uses_cpu_time:
        rows = measure_all(
            rounds=9,
            num_updates=300,
            uses_cpu_time=uses_cpu_time,
            with_compiler=False,
            planner=PlannerConfig(),
        )
    return [
        Row(figure=f"{r.figure}: times faster than plain", value=r.ratio, unit="x", target=r.target)
        for r in rows
    ]


def main() -> int:
    """Prints one line of JSON a row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--updates", type=int, default=300, help="updates to train on beforehand")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not wall time")
    parser.add_argument("--compile", action="store_true", help="also the compiled form")
    parser.add_argument("--small", action="store_true", help="a tenth of the candidates")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    small = PlannerConfig(num_samples=48, num_elites=8, iterations=2)
    for row in measure_all(
        rounds=options.rounds,
        num_updates=options.updates,
        uses_cpu_time=options.cpu_time,
        with_compiler=options.compile,
        planner=small if options.small else PlannerConfig(),
    ):
        sys.stdout.write(row.to_json(machine()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
