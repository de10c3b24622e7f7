import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from learner.encoders import ConvEncoder, ObservationEncoder, SpatialSoftmaxEncoder, StateEncoder
from learner.network_config import NetworkConfig
from learner.networks import Ensemble, NormedMlp, set_execution
from learner.pointwise import FusedSteps, elu, in_blocks, mish, widened
from learner.world_model import TargetModel, WorldModel
from protos.trial import FieldSpec, RobotSpec
from tests.learner.fowm_cases import make_spec

PAPER_SPEC = make_spec(image_size=84, state_size=4, num_actions=4)


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper_model():
    torch.manual_seed(0)
    return WorldModel(PAPER_SPEC, NetworkConfig())


def shaken(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return module


def uniform(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


def test_paper_sizes(paper_model):
    assert count(paper_model) == 2_734_573
    assert count(paper_model) - count(paper_model.v) == 2_444_268
    assert count(paper_model.encoder) == 77_644
    assert count(paper_model.dynamics) == 318_614
    assert count(paper_model.reward_head) == 293_377
    assert count(paper_model.pi) == 292_868
    assert count(paper_model.q) == 5 * 292_353
    assert count(paper_model.v) == 290_305


def test_paper_convolutions_shrink_84_to_39_18_8_3():
    encoder = ConvEncoder((84, 84, 3), 32, 50)
    sizes, x = [], torch.zeros(1, 3, 84, 84)
    for layer in encoder.convs.layers:
        x = layer(x)
        sizes.append(x.shape[-1])
    assert sizes == [39, 18, 8, 3]
    assert encoder.head[1].in_features == 288


def test_values_and_rewards_start_at_zero_and_latents_in_the_unit_box(paper_model):
    observation = {
        "image.front": torch.randint(0, 256, (3, 84, 84, 3), dtype=torch.uint8),
        "state": 100 * uniform(3, 4) - 50,
    }
    with torch.no_grad():
        z = paper_model.encode(observation)
        a = 2 * uniform(3, 4) - 1
        assert not paper_model.q_values(z, a).any()
        assert not paper_model.reward(z, a).any()
        assert paper_model.value(z).any()
        for latent in (z, paper_model.next(z, a)):
            assert latent.shape == (3, 50)
            assert bool(((latent > 0) & (latent < 1)).all())
        assert paper_model.q_values(z, a).shape == (5, 3)


def test_initial_weights_are_orthogonal(paper_model):
    def check(weight: torch.Tensor, gain: float) -> None:
        rows = weight.flatten(1)
        small = rows if len(rows) <= rows.shape[1] else rows.T
        product = small @ small.T
        torch.testing.assert_close(product, gain**2 * torch.eye(len(small)), rtol=0, atol=1e-4)

    for module in paper_model.modules():
        if isinstance(module, nn.Linear) and module is not paper_model.reward_head.out:
            check(module.weight, 1.0)
            assert not module.bias.any()
        if isinstance(module, nn.Conv2d):
            check(module.weight, math.sqrt(2.0))
            assert not module.bias.any()
    for member in range(5):
        check(paper_model.q.weight1[member], 1.0)
        check(paper_model.q.weight2[member], 1.0)
    check(paper_model.v.weight3[0], 1.0)
    assert not torch.equal(paper_model.q.weight2[0], paper_model.q.weight2[1])


def test_target_copies_encoder_and_qs_only(paper_model):
    target = TargetModel(paper_model)
    assert count(target) == count(paper_model.encoder) + count(paper_model.q)
    assert {name.split(".")[0] for name, _ in target.named_parameters()} == {"encoder", "q"}
    assert not any(p.requires_grad for p in target.parameters())


@pytest.mark.parametrize("num", [1, 5])
def test_ensemble_forms_agree_in_values_and_gradients(num):
    ensemble = shaken(Ensemble(num, 7, 16)).double()
    x = uniform(33, 7).double()
    gradients = []
    for form in (ensemble.stacked, ensemble.looped):
        ensemble.zero_grad()
        form(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in ensemble.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(ensemble.stacked(x), ensemble(x), rtol=0, atol=1e-12)


def test_ensemble_members_are_rows_of_the_whole():
    ensemble = shaken(Ensemble(5, 7, 16)).double()
    x = uniform(9, 7).double()
    with torch.no_grad():
        whole = ensemble(x)
        for form in (ensemble.stacked, ensemble.looped, ensemble):
            torch.testing.assert_close(form(x, [3, 1]), whole[[3, 1]], rtol=0, atol=1e-12)


def test_no_members_give_no_rows():
    # A planner with two Q networks asks for the ones outside the random pair: none are.
    ensemble, x = shaken(Ensemble(2, 7, 16)), uniform(9, 7)
    for form in (ensemble.stacked, ensemble.looped, ensemble):
        assert form(x, []).shape == (0, 9)


@pytest.mark.parametrize(("ours", "torchs"), [(mish, F.mish), (elu, F.elu)])
def test_activations_equal_torchs(ours, torchs):
    x = torch.linspace(-30, 30, 4001)
    torch.testing.assert_close(ours(x.clone()), torchs(x), rtol=0, atol=4e-6)
    extreme = torch.tensor([-1e4, -200.0, 0.0, 200.0, 1e4])
    torch.testing.assert_close(ours(extreme.clone()), torchs(extreme), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("ours", "torchs"), [(mish, F.mish), (elu, F.elu)])
def test_activations_have_torchs_gradients(ours, torchs):
    gradients = []
    for function in (ours, torchs):
        x = torch.linspace(-5, 5, 101, requires_grad=True)
        function(x).sum().backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_fused_steps_equal_the_ordinary_ones(dtype):
    fused = FusedSteps(lambda function: function)
    for module, inputs in ((NormedMlp(7, 32, 5), 7), (Ensemble(5, 7, 32), 7)):
        shaken(module).requires_grad_(requires_grad=False)
        x = 2 * uniform(40, inputs) - 1
        set_execution(module, dtype)
        ordinary = module(x)
        set_execution(module, dtype, fused=fused)
        tolerance = 1e-5 if dtype is None else 0.03
        torch.testing.assert_close(module(x), ordinary, rtol=0, atol=tolerance)
        assert module(x).dtype == torch.float32


def test_bfloat16_products_keep_outputs_close_and_wide():
    for module in (NormedMlp(7, 64, 5), Ensemble(5, 7, 64)):
        shaken(module).requires_grad_(requires_grad=False)
        x = 2 * uniform(40, 7) - 1
        exact = module(x)
        set_execution(module, torch.bfloat16, convert=True)
        rounded = module(x)
        assert rounded.dtype == torch.float32
        assert not torch.equal(exact, rounded)
        torch.testing.assert_close(rounded, exact, rtol=0, atol=0.05 * float(exact.std() + 1))


def test_work_in_blocks_equals_work_at_once():
    rows = uniform(1100, 7)
    for module in (shaken(NormedMlp(7, 16, 5)), shaken(Ensemble(3, 7, 16))):
        with torch.no_grad():
            assert len(in_blocks(rows, 512)) == 3
            blocked = module(rows)
        assert len(in_blocks(rows, 512)) == 1
        torch.testing.assert_close(blocked, module(rows).detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("encoder", ["paper_conv", "spatial_softmax"])
@pytest.mark.parametrize("shape", [(40, 40, 3), (48, 64, 3), (57, 41, 1)])
def test_image_encoders_take_any_size_and_any_number_of_frames(encoder, shape):
    field = FieldSpec(name="image.wrist", dtype="uint8", shape=shape)
    model = ObservationEncoder(
        RobotSpec(
            task="t",
            observations=(field,),
            action_names=("x",),
            action_scale=(1.0,),
            control_hz=1.0,
            max_steps=1,
        ),
        NetworkConfig(encoder=encoder, conv_channels=4, latent_size=6),
    )
    frames = torch.randint(0, 256, (2, 35, *shape), dtype=torch.uint8)
    with torch.no_grad():
        together = model({"image.wrist": frames})
        single = model({"image.wrist": frames[1, 34]})
    assert together.shape == (2, 35, 6)
    # A convolution sums in another order for another number of frames: a few float32 roundings.
    torch.testing.assert_close(together[1, 34], single, rtol=0, atol=1e-5)


@pytest.mark.parametrize("encoder", ["paper_conv", "spatial_softmax"])
def test_images_too_small_for_the_encoder_are_refused(encoder):
    spec = make_spec(image_size=8)
    with pytest.raises(ValueError, match="8x8 are too small"):
        WorldModel(spec, NetworkConfig(encoder=encoder))


def test_dividing_by_255_and_grey_are_folded_into_the_first_convolution():
    for encoder in (ConvEncoder((40, 40, 3), 4, 6), SpatialSoftmaxEncoder((40, 40, 3), 4, 6)):
        shaken(encoder.double())
        frames = torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8)
        grey = getattr(encoder, "GREY", 0.0)
        x = (frames.permute(0, 3, 1, 2).double() - grey) / 255
        for i, layer in enumerate(encoder.convs.layers):
            x = layer(x if i == 0 else x.relu())
        x = x.relu() if isinstance(encoder, ConvEncoder) else x
        torch.testing.assert_close(encoder.convs(frames), x, rtol=0, atol=1e-10)


def test_keypoints_follow_a_bright_spot():
    torch.manual_seed(0)
    encoder = SpatialSoftmaxEncoder((44, 44, 3), 1, 6)
    with torch.no_grad():
        for layer in encoder.convs.layers:
            layer.weight.fill_(1.0)
        encoder.log_temperature.fill_(math.log(0.5))
    frames = torch.zeros(3, 44, 44, 3, dtype=torch.uint8)
    for frame, (row, column) in zip(frames, ((22, 10), (22, 34), (10, 22)), strict=True):
        frame[row - 4 : row + 5, column - 4 : column + 5] = 255
    with torch.no_grad():
        left, right, top = encoder.keypoints(frames)
    assert float(left[0]) < -0.3 < 0.3 < float(right[0])
    assert float(left[1]) == pytest.approx(float(right[1]), abs=1e-4)
    assert float(top[1]) < -0.3
    assert bool((torch.stack([left, right, top]).abs() <= 1).all())


def test_latents_of_several_fields_are_averaged():
    spec = RobotSpec(
        task="t",
        observations=(
            FieldSpec(name="image.a", dtype="uint8", shape=(40, 40, 3)),
            FieldSpec(name="image.b", dtype="uint8", shape=(48, 40, 3)),
            FieldSpec(name="state", dtype="float32", shape=(4,)),
        ),
        action_names=("x",),
        action_scale=(1.0,),
        control_hz=1.0,
        max_steps=1,
    )
    encoder = ObservationEncoder(spec, NetworkConfig(conv_channels=4, latent_size=6))
    observation = {
        "image.a": torch.randint(0, 256, (2, 40, 40, 3), dtype=torch.uint8),
        "image.b": torch.randint(0, 256, (2, 48, 40, 3), dtype=torch.uint8),
        "state": uniform(2, 4),
    }
    with torch.no_grad():
        parts = [encoder.part(name)(value) for name, value in observation.items()]
        fused = encoder(observation)
    torch.testing.assert_close(fused, (parts[0] + parts[1] + parts[2]) / 3)


@pytest.mark.parametrize(("image_size", "state_size"), [(40, 0), (None, 4)])
def test_robots_without_camera_or_without_state(image_size, state_size):
    spec = make_spec(image_size=image_size, state_size=state_size)
    model = WorldModel(spec, NetworkConfig(conv_channels=4, latent_size=6, mlp_size=16))
    observation = {
        f.name: torch.zeros(2, *f.shape, dtype=getattr(torch, f.dtype)) for f in spec.observations
    }
    assert model.encode(observation).shape == (2, 6)


def test_state_ranges_map_to_the_unit_box():
    encoder = StateEncoder(3, 8, 4)
    low, high = torch.tensor([-0.1, 0.2, 5.0]), torch.tensor([0.1, 0.5, 5.0])
    x = torch.stack([low, high, (low + high) / 2])
    raw = encoder.net(torch.tensor([[-1.0, -1, 0], [1, 1, 0], [0, 0, 0]]))
    encoder.set_range(low, high)
    torch.testing.assert_close(encoder(x), raw)
    assert {"center", "half_range"} <= encoder.state_dict().keys()


def test_half_precision_is_widened_and_others_kept():
    assert widened(torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32
    assert widened(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"latent_size": 0}, "sizes"),
        ({"conv_channels": -1}, "sizes"),
        ({"num_q": 1}, "num_q"),
        ({"encoder": "resnet"}, "encoder"),
        ({"state_normalisation": "z"}, "state_normalisation"),
    ],
)
def test_network_config_refuses_nonsense(bad, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**bad)


def test_images_must_be_bytes():
    field = FieldSpec(name="image.front", dtype="float32", shape=(40, 40, 3))
    spec = RobotSpec(
        task="t",
        observations=(field,),
        action_names=("x",),
        action_scale=(1.0,),
        control_hz=1.0,
        max_steps=1,
    )
    with pytest.raises(ValueError, match="images are uint8"):
        WorldModel(spec, NetworkConfig())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_steps_equal_the_ordinary_ones():
    fused = FusedSteps.compiled()
    for module in (shaken(NormedMlp(7, 32, 5)), shaken(Ensemble(5, 7, 32))):
        module.requires_grad_(requires_grad=False)
        for rows in (40, 57, 3):
            x = 2 * uniform(rows, 7) - 1
            set_execution(module, None)
            ordinary = module(x)
            set_execution(module, None, fused=fused)
            torch.testing.assert_close(module(x), ordinary, rtol=0, atol=1e-5)
