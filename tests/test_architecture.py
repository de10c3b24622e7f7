"""The dependency rules of the packages, held by reading the source.

Each rule is a function from one module to the list of its offences, so that the tests below can
show both that the tree has none and that the rule would find one.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("protos", "robot", "learner", "services", "deploy")

MAY_IMPORT = {
    "protos": {"protos"},
    "robot": {"protos", "robot"},
    "learner": {"protos", "learner"},
    "services": {"protos", "robot", "learner", "services", "deploy"},
    "deploy": {"deploy"},
}
NEVER_IMPORTS = {
    "protos": {"torch", "ray", "zarr", "mujoco", "cv2", "xarm", "pyrealsense2"},
    "robot": {"torch", "ray", "grpc", "zarr", "safetensors"},
    "learner": {"grpc", "mujoco", "xarm", "pyrealsense2", "cv2"},
}
# A vendor's name appears in these modules only, so that replacing it is a local change.
ONLY_IN = {
    "ray": ("learner/ray_trainer.py",),
    "zarr": ("learner/zarr_group.py",),
    "safetensors": ("learner/weights.py", "learner/checkpoint.py"),
    "xarm": ("robot/xarm_sdk.py",),
    "pyrealsense2": ("robot/realsense_sdk.py",),
    "mujoco": ("robot/sim/",),
    "tensorboard": ("learner/metrics.py",),
    "tyro": ("services/config.py", "services/commands/flags.py"),
    "rich": ("services/console.py", "services/commands/trials_watch.py"),
    "av": ("services/video.py",),
    "PIL": ("services/video.py",),
    "matplotlib": ("services/figures.py", "services/video.py"),
}
# Packages that are imported by another name than they are installed by.
INSTALLED_AS = {
    "PIL": "pillow",
    "cv2": "opencv-python",
    "google": "protobuf",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "xarm": "xarm-python-sdk",
}
# Code that runs from data. None of it is ever needed here.
FORBIDDEN_MODULES = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "joblib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "torch.load",
    "torch.save",
    "yaml.load",
    "yaml.unsafe_load",
    "os.system",
}
VAGUE_NAMES = {"utils", "util", "helper", "helpers", "common", "misc", "tools"}
# Modules that speak to a person or a script on standard output.
MAY_PRINT = (
    "services/console.py",
    "services/config.py",
    "robot/doubles/realsense_device.py",
    "robot/doubles/xarm_controller.py",
    "tests/bench/",
    "tests/faults/__main__.py",
)
MAX_LINES = 400
LONG_LINES = 300
# Modules above 300 lines, and why they were not split.
LONG_MODULES = {
    "protos/trial.py": "the trial and the spec check each other; every invariant is in one place",
    "learner/algorithms/fowm.py": "one update from top to bottom, to be read beside the paper",
}


@dataclass(frozen=True)
class Module:
    """One source file, parsed."""

    path: str
    """Relative to the root, with slashes."""
    text: str

    @property
    def package(self) -> str:
        return self.path.split("/")[0]

    @property
    def name(self) -> str:
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    def imports(self, *, is_running: bool = False) -> Iterator[str]:
        """Yields the dotted names this module imports anywhere, also inside functions.

        Args:
            is_running: Leave out what only a type checker reads.
        """
        tree = self.tree()
        for branch in [n for n in ast.walk(tree) if isinstance(n, ast.If) and is_running]:
            if ast.unparse(branch.test) == "TYPE_CHECKING":
                branch.body = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parts = self.path.removesuffix(".py").split("/")
                    base = ".".join([*parts[: -node.level], *([base] if base else [])])
                yield from (f"{base}.{alias.name}" for alias in node.names)

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Yields every call whose callee is a plain dotted name."""
        for node in ast.walk(self.tree()):
            if isinstance(node, ast.Call):
                yield ast.unparse(node.func), node


def layer_offences(module: Module) -> list[str]:
    allowed = MAY_IMPORT[module.package]
    never = NEVER_IMPORTS.get(module.package, set())
    return [
        name
        for name in module.imports()
        if (name.split(".")[0] in MAY_IMPORT and name.split(".")[0] not in allowed)
        or name.split(".")[0] in never
    ]


def vendor_offences(module: Module) -> list[str]:
    offences = [
        name
        for name in module.imports()
        if name.split(".")[0] in ONLY_IN and not module.path.startswith(ONLY_IN[name.split(".")[0]])
    ]
    if module.package != "services" and module.path != "protos/codec.py":
        offences += [n for n in module.imports() if "_pb2" in n]
    return offences


def data_as_code_offences(module: Module) -> list[str]:
    offences = [n for n in module.imports() if n.split(".")[0] in FORBIDDEN_MODULES]
    for name, call in module.calls():
        keywords = {k.arg: k.value for k in call.keywords}
        allow = keywords.get("allow_pickle")
        if name in FORBIDDEN_CALLS:
            offences.append(name)
        elif allow is not None and not (isinstance(allow, ast.Constant) and allow.value is False):
            offences.append(f"{name}(allow_pickle)")
    return offences


def print_offences(module: Module) -> list[str]:
    if module.path.startswith(MAY_PRINT):
        return []
    return [n for n, _ in module.calls() if n in {"print", "sys.stdout.write"}]


def length_offences(module: Module) -> list[str]:
    lines = module.text.count("\n")
    limit = MAX_LINES if module.path in LONG_MODULES else LONG_LINES
    return [f"{lines} lines, at most {limit}"] if lines > limit else []


def name_offences(module: Module) -> list[str]:
    return [part for part in module.name.split(".") if part in VAGUE_NAMES]


def sources() -> list[Module]:
    return [
        Module(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if "_pb2" not in path.name
    ]


RULES = [
    layer_offences,
    vendor_offences,
    data_as_code_offences,
    print_offences,
    length_offences,
    name_offences,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.__name__)
def test_no_module_breaks_the_rule(rule: Callable[[Module], list[str]]) -> None:
    broken = {m.path: found for m in sources() if (found := rule(m))}
    assert broken == {}


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (layer_offences, "robot/arm.py", "import torch.nn"),
        (layer_offences, "robot/arm.py", "def f():\n    from learner import store\n"),
        (layer_offences, "learner/store.py", "from robot.env import RobotEnv"),
        (layer_offences, "learner/trainer.py", "import grpc"),
        (layer_offences, "protos/codec.py", "import services.client"),
        (layer_offences, "robot/sim/arm.py", "from ...learner import store"),
        (vendor_offences, "learner/trainer.py", "import ray"),
        (vendor_offences, "services/ingress.py", "import zarr.codecs"),
        (vendor_offences, "robot/env.py", "import mujoco"),
        (vendor_offences, "learner/weights.py", "from protos import learner_pb2"),
        (data_as_code_offences, "learner/a.py", "from pickle import loads"),
        (data_as_code_offences, "learner/a.py", "torch.load('x', weights_only=True)"),
        (data_as_code_offences, "learner/a.py", "eval('1')"),
        (data_as_code_offences, "learner/a.py", "np.load('x', allow_pickle=True)"),
        (print_offences, "learner/a.py", "print('x')"),
        (length_offences, "learner/a.py", "\n" * 301),
        (length_offences, "protos/trial.py", "\n" * 401),
        (name_offences, "robot/sim/utils.py", ""),
        (name_offences, "services/common/__init__.py", ""),
    ],
)
def test_each_rule_finds_what_it_forbids(
    rule: Callable[[Module], list[str]], path: str, text: str
) -> None:
    assert rule(Module(path, text)) != []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (layer_offences, "services/loop.py", "from robot.env import RobotEnv\nimport torch\n"),
        (vendor_offences, "learner/ray_trainer.py", "import ray"),
        (vendor_offences, "services/ingress.py", "from protos import learner_pb2_grpc"),
        (data_as_code_offences, "learner/a.py", "model.eval()\nnp.load('x', allow_pickle=False)"),
        (length_offences, "protos/trial.py", "\n" * 399),
    ],
)
def test_each_rule_leaves_alone_what_it_allows(
    rule: Callable[[Module], list[str]], path: str, text: str
) -> None:
    assert rule(Module(path, text)) == []


def test_every_package_that_is_imported_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *(w for name in extras if name != "dev" for w in extras[name]),
    ]
    declared = {re.split(r"[^\w-]", w)[0].lower() for w in wanted}
    imported = {name.split(".")[0] for module in sources() for name in module.imports()}
    ours = {*PACKAGES, *sys.stdlib_module_names}
    assert {INSTALLED_AS.get(name, name).lower() for name in imported - ours} <= declared


def test_the_list_of_long_modules_is_true() -> None:
    lengths = {m.path: m.text.count("\n") for m in sources()}
    assert all(LONG_LINES < lengths.get(path, 0) <= MAX_LINES for path in LONG_MODULES)


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    modules = {m.name: m for m in sources()}
    edges = {
        name: {
            known
            for target in module.imports(is_running=True)
            for known in (target, target.rpartition(".")[0])
            if known in modules and known != name
        }
        for name, module in modules.items()
    }
    assert circle(edges) == []


def circle(edges: dict[str, set[str]]) -> list[str]:
    """Returns one cycle of the graph, or nothing."""
    done: set[str] = set()

    def visit(node: str, trail: list[str]) -> list[str]:
        if node in trail:
            return [*trail[trail.index(node) :], node]
        if node in done:
            return []
        for following in sorted(edges.get(node, ())):
            if found := visit(following, [*trail, node]):
                return found
        done.add(node)
        return []

    return next((found for node in sorted(edges) if (found := visit(node, []))), [])


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("services.cli", {"torch", "grpc", "ray", "zarr", "mujoco", "matplotlib", "tyro"}),
        ("services.ingress", {"torch", "ray", "mujoco"}),
        ("services.recorder", {"torch", "ray", "zarr", "mujoco"}),
        ("services.learner", {"torch", "mujoco", "ray", "zarr"}),
        ("services.learner_config", {"torch", "mujoco", "ray", "zarr"}),
        ("learner.algorithms.registry", {"torch"}),
        ("learner.ray_trainer", {"torch", "ray"}),
        ("services.actor", {"torch", "ray", "zarr"}),
        ("services.guard", {"torch", "grpc", "ray", "zarr", "mujoco", "cv2", "sqlite3", "tyro"}),
        ("robot.guarded_arm", {"torch", "grpc", "ray", "zarr", "mujoco", "cv2", "xarm"}),
        ("robot.env", {"torch", "grpc", "ray", "zarr", "mujoco"}),
    ],
)
def test_a_process_does_not_load_what_it_does_not_need(module: str, absent: set[str]) -> None:
    assert loaded_by(f"import {module}") & absent == set()


def test_the_learner_s_own_process_does_without_torch() -> None:
    loaded = loaded_by(
        "import services.learner, learner.ray_trainer\n"
        "from services import learner_config\n"
        "from services.config_text import to_toml\n"
        "argv = ['--config', 'deploy/configs/demo-learner.toml']\n"
        "config = learner_config.load(argv)\n"
        "to_toml(config), learner.ray_trainer.RaySupervisor(config.job(), config.ray)"
    )
    assert loaded & {"torch", "zarr", "mujoco"} == set()
    assert "learner.algorithms.fowm_config" in loaded


def loaded_by(code: str) -> set[str]:
    """Runs code in a process of its own; returns the modules that are loaded then."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
