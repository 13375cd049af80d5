"""Checks for every model family, as a mixin (transformers leaves its own out of the wheel).

A family's test file subclasses `ModelChecks`, names the model class and gives a tiny configuration and inputs:

    class TestMyModel(ModelChecks):
        model_class = MyModel
        input_embeddings = "embeddings.patch_embedding"

        def config(self):
            return MyConfig(hidden_size=16, ...)

        def inputs(self):
            return {"pixel_values_videos": draw(2, 2, 3, 32, 32)}

        def towers(self, outputs):
            return [Tower(outputs, num_layers=3, hidden_states=(4, 17, 16), attentions=(4, 2, 17, 17))]

Weights initialized at zero (gates, last layers of new blocks) would hide errors, so the checks run on perturbed
weights.
"""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
from models.device_maps import MAIN, FakeTensorMode, empty_like, half_on_disk, on_two_devices
from torch import nn
from transformers import AutoModel, Trainer, TrainingArguments
from transformers.configuration_utils import PreTrainedConfig
from transformers.exporters import DynamoConfig, DynamoExporter
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import ModelOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from internvideo_hf.models.common.configuration import ClassifierConfig

# Largest distance of a half-precision result, relative to its length. One rounding step is 2**-9 in bfloat16 and
# 2**-12 in float16 (0.2 % and 0.02 %); some dozens follow each other in a tiny model.
HALF_PRECISION = {torch.bfloat16: 0.05, torch.float16: 0.005}


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Sample normal numbers that are the same in every run."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def move_from_start(model: PreTrainedModel, seed: int = 0) -> PreTrainedModel:
    """Add noise to every parameter, so that none stays zero, and switch to evaluation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tensors_of(outputs: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a model's output by its path."""
    if isinstance(outputs, torch.Tensor):
        return {prefix.removesuffix("."): outputs}
    if isinstance(outputs, Mapping):
        items = outputs.items()
    elif isinstance(outputs, (tuple, list)):
        items = enumerate(outputs)
    else:
        return {}
    return {path: tensor for key, value in items for path, tensor in tensors_of(value, f"{prefix}{key}.").items()}


def assert_same(actual: Any, expected: Any, atol: float = 0.0, rtol: float = 0.0) -> None:
    """Compare two outputs, or two dicts of tensors, tensor by tensor; exactly by default."""
    actual, expected = tensors_of(actual), tensors_of(expected)
    assert list(actual) == list(expected), f"got the tensors {list(actual)}, expected {list(expected)}"
    assert actual, "there is nothing to compare"
    for name, tensor in expected.items():
        torch.testing.assert_close(
            actual[name], tensor, atol=atol, rtol=rtol, msg=lambda text, name=name: f"{name}: {text}"
        )


def gradients(model: PreTrainedModel, outputs: ModelOutput) -> dict[str, torch.Tensor | None]:
    """Gradients of a weighted sum of all outputs. The weights differ, as the plain sum of a layer norm is constant."""
    total = 0
    for tensor in tensors_of(outputs).values():
        if tensor.is_floating_point():
            weights = torch.arange(1, tensor.numel() + 1).cos().reshape(tensor.shape)
            total = total + (weights * tensor).mean()
    model.zero_grad()
    total.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@contextmanager
def uninitialised_memory_is_visible() -> Iterator[None]:
    """Let `torch.empty` give NaN, and the largest integer, instead of whatever the memory holds."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def one_of_each_module(names: Iterable[str]) -> list[set[str]]:
    """Group names of tensors into as few sets as have no two tensors of one module."""
    modules: dict[str, list[str]] = {}
    for name in names:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    return [set(filter(None, together)) for together in zip_longest(*modules.values())]


def buffers_not_saved(model: nn.Module) -> dict[str, torch.Tensor]:
    saved = model.state_dict()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def fields_read(classes: set[type]) -> set[str]:
    """Names of the attributes that the source of these classes reads from a configuration.

    Reads count where the expression ends in `config`, as in `self.config.hidden_size`, where it is a local name given
    to a part of one, as in `vision = config.vision_config`, and in `getattr(config, "hidden_size")`.
    """
    names = set()
    for cls in classes:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("config"):
                names.add(node.attr)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
                source, name = node.args[:2]
                if ast.unparse(source).endswith("config") and isinstance(name, ast.Constant):
                    names.add(name.value)
    return names


def own_classes(model: nn.Module) -> set[type]:
    """Return the classes of all modules of a model, and their bases, as far as this project defines them."""
    bases = {base for module in model.modules() for base in type(module).__mro__}
    theirs = ("torch", "transformers", "builtins", "typing", "abc")
    return {base for base in bases if base.__module__.partition(".")[0] not in theirs}


@dataclasses.dataclass
class Tower:
    """What one stack of layers should have recorded.

    Attributes:
        outputs: the output that holds `hidden_states` and `attentions`.
        num_layers: layers that record.
        hidden_states, attentions: the shape of each.
    """

    outputs: ModelOutput
    num_layers: int
    hidden_states: tuple[int, ...]
    attentions: tuple[int, ...]


OPEN_SET_IN_FLOAT32 = ("loss", "uncertainty", "cls_loss", "variance_loss", "kl_loss", "avu_loss")
"""Outputs of open-set classifiers, for `ModelChecks.in_float32`."""

EITHER_HALF = [0, pytest.param(1, marks=pytest.mark.slow)]


class ModelChecks:
    """See the head of this file.

    Attributes:
        model_class: the class under test.
        auto_class: the Auto class that has to find it in a saved folder.
        input_embeddings: name of the module that turns patches or token ids into vectors.
        frame_counts: frames of a clip that the model has to accept besides those of `inputs()`; empty where the
            maths binds it to one count.
        image_sizes: height and width that it has to accept besides those of `inputs()`; empty likewise.
        wrong_size: what the error says of a size that no patch grid fits; None if the model takes it.
        fields_read_elsewhere: configuration field that no module reads -> who does.
        drawn_by_transformers: beginning of a parameter's name -> why it may be drawn with another spread where it
            alone is missing from a checkpoint.
        cancelling: output that is a difference of larger numbers -> their size, which is what rounding scales with.
        constants: outputs that the sizes of the input determine alone; they have no samples and stay in float32.
        without_gradient: part of a parameter's name -> why the loss does not depend on it.
        loss_over: "samples" for a mean over samples, which gradient accumulation must not change; "pairs" for a
            contrastive loss, in which a bigger batch means more negatives, so that it cannot be invariant; None where
            the model computes no loss.
        file_rounding: of a product with a single row of weights, which rounds by their address: those of a mapped file
            lie anywhere.
    """

    model_class: type[PreTrainedModel]
    auto_class: type = AutoModel
    input_embeddings: str
    frame_counts: tuple[int, ...] = (1, 5)
    image_sizes: tuple[tuple[int, int], ...] = ((40, 24),)
    wrong_size: str | None = "not a multiple of the patch size"
    fields_read_elsewhere: dict[str, str] = {}
    drawn_by_transformers: dict[str, str] = {}
    cancelling: dict[str, float] = {}
    constants: tuple[str, ...] = ()
    without_gradient: dict[str, str] = {}
    loss_over: str | None = None
    in_float32: tuple[str, ...] = ()  # outputs of models in half precision too
    file_rounding: float = 0.0

    def config(self) -> PreTrainedConfig:
        """Return a tiny configuration in which no two sizes are equal that could be mistaken for each other."""
        raise NotImplementedError

    def inputs(self) -> dict[str, Any]:
        """Arguments of `forward` by name, two or more samples; clips of two frames, as channels are three."""
        raise NotImplementedError

    def towers(self, outputs: ModelOutput) -> list[Tower]:
        """Return the expected shapes of hidden states and attentions for `inputs()`."""
        raise NotImplementedError

    def model(self, **options: Any) -> PreTrainedModel:
        torch.manual_seed(0)
        return move_from_start(self.model_class._from_config(self.config(), **options))

    def calls(self, model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return the results of all public ways to run the model by their names; families add theirs."""
        return {"forward": model(**inputs)}

    def computed(self, outputs: Any) -> dict[str, torch.Tensor]:
        """Return every tensor of an output that depends on weights, by its path."""
        tensors = tensors_of(outputs)
        return {name: tensor for name, tensor in tensors.items() if name.partition(".")[0] not in self.constants}

    def with_pixels(self, pixels: torch.Tensor) -> dict[str, Any]:
        return {**self.inputs(), "pixel_values_videos": pixels}

    # Saving and loading

    @torch.no_grad()
    def test_saved_model_loads_bit_for_bit(self, tmp_path: Path) -> None:
        model = self.model()
        model.save_pretrained(tmp_path)
        with uninitialised_memory_is_visible():
            loaded, info = self.model_class.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values()), info
        assert_same(loaded.state_dict(), model.state_dict())
        assert loaded.dtype == torch.float32
        assert not loaded.training
        assert loaded.config.to_dict().keys() == model.config.to_dict().keys()
        close = {"atol": self.file_rounding, "rtol": self.file_rounding}
        assert_same(loaded(**self.inputs()), model(**self.inputs()), **close)

    def test_buffers_that_are_not_saved_are_rebuilt_on_loading(self, tmp_path: Path) -> None:
        model = self.model()
        model.save_pretrained(tmp_path)
        with uninitialised_memory_is_visible():
            loaded = self.model_class.from_pretrained(tmp_path)
        for name, buffer in buffers_not_saved(model).items():
            assert torch.equal(buffers_not_saved(loaded)[name], buffer), f"{name} is garbage after from_pretrained"

    @torch.no_grad()
    def test_auto_class_finds_the_model_in_a_saved_folder(self, tmp_path: Path) -> None:
        model = self.model()
        model.save_pretrained(tmp_path)
        loaded = self.auto_class.from_pretrained(tmp_path)
        assert type(loaded) is self.model_class
        assert type(loaded.config) is type(model.config)
        close = {"atol": self.file_rounding, "rtol": self.file_rounding}
        assert_same(loaded(**self.inputs()), model(**self.inputs()), **close)

    def test_fresh_parameters_are_all_drawn_and_repeat_under_a_seed(self) -> None:
        first, again, other = (self._fresh(seed).state_dict() for seed in (0, 0, 1))
        assert_same(again, first)
        for name, tensor in first.items():
            assert tensor.isfinite().all(), f"{name} was never initialised"
            if len(tensor.unique()) > 1:
                assert not torch.equal(other[name], tensor), f"{name} is random, but does not follow the seed"

    @pytest.mark.parametrize("together", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["rounds", "alone"])
    def test_parameters_missing_from_a_checkpoint_are_drawn_and_the_others_kept(self, together: bool) -> None:
        fresh, config, state_dict = self._fresh(0).state_dict(), self.config(), self.model().state_dict()
        for missing in one_of_each_module(state_dict) if together else [{name} for name in state_dict]:
            kept = {name: tensor for name, tensor in state_dict.items() if name not in missing}
            with uninitialised_memory_is_visible():
                loaded, info = self.model_class.from_pretrained(
                    None, config=config, state_dict=dict(kept), output_loading_info=True
                )
            assert set(info["missing_keys"]) == missing
            actual = loaded.state_dict()
            drawn = {name: actual.pop(name) for name in missing}
            assert_same({name: actual[name] for name in kept}, kept)
            for name, tensor in drawn.items():
                assert tensor.isfinite().all(), f"{name} was never initialised"
                if not name.startswith(tuple(self.drawn_by_transformers)):
                    assert_alike(tensor, fresh[name], name)

    def _fresh(self, seed: int) -> PreTrainedModel:
        config = self.config()
        torch.manual_seed(seed)
        with uninitialised_memory_is_visible():
            return self.model_class(config)

    # Configuration

    def test_every_field_of_the_configuration_is_read(self) -> None:
        config_class = type(self.config())
        # Those of all classifiers have tests of their own, in `tests/models/common`.
        common = {field.name for kind in (PreTrainedConfig, ClassifierConfig) for field in dataclasses.fields(kind)}
        fields = {field.name for field in dataclasses.fields(config_class)} - common
        read = fields_read(own_classes(self.model()))
        elsewhere = set(self.fields_read_elsewhere)
        assert elsewhere <= fields, f"no fields of {config_class.__name__}: {elsewhere - fields}"
        assert not elsewhere & read, f"excused, but read by a module: {elsewhere & read}"
        assert fields - read == elsewhere, f"fields that no module reads: {sorted(fields - read - elsewhere)}"

    def test_input_embeddings_are_the_layer_behind_patches_or_tokens(self) -> None:
        model = self.model()
        assert model.get_input_embeddings() is model.get_submodule(self.input_embeddings)
        # What adapters need: with every weight frozen, a gradient has to come from there.
        model.requires_grad_(False)
        model.enable_input_require_grads()
        main = [tensor for tensor in self.computed(model(**self.inputs())).values() if tensor.is_floating_point()]
        assert all(tensor.requires_grad for tensor in main)

    def test_input_embeddings_can_be_replaced(self) -> None:
        model, other = self.model(), nn.Embedding(2, 3)
        model.set_input_embeddings(other)
        assert model.get_input_embeddings() is other
        assert model.get_submodule(self.input_embeddings) is other

    # Forward

    @torch.no_grad()
    def test_return_dict_false_gives_the_same_tensors_as_a_tuple(self) -> None:
        model, inputs = self.model(), self.inputs()
        expected = list(tensors_of(model(**inputs)).values())
        outputs = model(**inputs, return_dict=False)
        assert isinstance(outputs, tuple)
        assert_same([*tensors_of(outputs).values()], expected)
        model.config.return_dict = False
        outputs = model(**inputs)
        assert isinstance(outputs, tuple)
        assert_same([*tensors_of(outputs).values()], expected)

    @torch.no_grad()
    def test_samples_of_a_batch_do_not_see_each_other(self) -> None:
        model, inputs = self.model(), self.inputs()
        alone = model(**{key: one_sample(value) for key, value in inputs.items()})
        together = model(**inputs)
        for tower_alone, tower in zip(self.towers(alone), self.towers(together), strict=True):
            actual, expected = self.computed(tower_alone.outputs), self.computed(tower.outputs)
            expected = {name: one_sample(tensor) for name, tensor in expected.items() if tensor.ndim}
            actual = {name: tensor for name, tensor in actual.items() if tensor.ndim}
            assert_same(actual, expected, atol=1e-5, rtol=1e-5)

    @torch.no_grad()
    def test_hidden_states_are_one_more_than_layers(self) -> None:
        model, inputs = self.model(), self.inputs()
        plain = model(**inputs)
        for tower in self.towers(model(**inputs, output_hidden_states=True)):
            assert len(tower.outputs.hidden_states) == tower.num_layers + 1
            assert {tuple(state.shape) for state in tower.outputs.hidden_states} == {tower.hidden_states}
            states = torch.stack(tower.outputs.hidden_states)
            assert len(states.flatten(1).unique(dim=0)) == len(states), "two layers give the same states"
        assert all(tower.outputs.hidden_states is None for tower in self.towers(plain))

    @torch.no_grad()
    def test_hidden_states_of_chosen_layers_leave_out_the_others(self) -> None:
        model, inputs = self.model(), self.inputs()
        everything = self.towers(model(**inputs, output_hidden_states=True))
        chosen = self.towers(model(**inputs, output_hidden_states=[1, -1]))
        for full, some in zip(everything, chosen, strict=True):
            assert len(some.outputs.hidden_states) == full.num_layers + 1
            for layer, state in enumerate(some.outputs.hidden_states):
                if layer in (1, full.num_layers):
                    # Two runs: on a busy machine the last bit may differ, by how many threads a product got.
                    torch.testing.assert_close(state, full.outputs.hidden_states[layer], atol=1e-6, rtol=1e-6)
                else:
                    assert state is None

    @torch.no_grad()
    def test_attentions_of_the_eager_kernel_are_probabilities(self) -> None:
        model = self.model(attn_implementation="eager")
        for tower in self.towers(model(**self.inputs(), output_attentions=True)):
            assert len(tower.outputs.attentions) == tower.num_layers
            assert {tuple(weights.shape) for weights in tower.outputs.attentions} == {tower.attentions}
            for weights in tower.outputs.attentions:
                torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))

    @torch.no_grad()
    def test_other_frame_counts_and_sizes_are_taken(self) -> None:
        model = self.model()
        pixels = self.inputs()["pixel_values_videos"]
        batch, frames, channels, height, width = pixels.shape
        shapes = [(batch, count, channels, height, width) for count in self.frame_counts]
        shapes += [(batch, frames, channels, *size) for size in self.image_sizes]
        for shape in shapes:
            outputs = tensors_of(model(**self.with_pixels(draw(*shape))))
            assert all(tensor.isfinite().all() for tensor in outputs.values()), shape

    def test_wrong_layouts_and_sizes_are_refused_with_what_would_fit(self) -> None:
        model = self.model()
        pixels = self.inputs()["pixel_values_videos"]
        batch, frames, channels, height, width = pixels.shape
        layouts = {
            "channels before frames": pixels.transpose(1, 2),
            "channels last": pixels.movedim(2, -1),
            "no batch and no frames": pixels[0, 0],
            "one axis too many": pixels[None],
            "a missing channel": pixels[:, :, 1:],
        }
        for name, wrong in layouts.items():
            with pytest.raises(ValueError, match="expected") as error:
                model(**self.with_pixels(wrong))
            message = str(error.value)
            assert str(tuple(wrong.shape)) in message and f"(batch, frames, {channels}, height, width)" in message, (
                name
            )
        for side, wrong in {"height": (height + 1, width), "width": (height, width - 1)}.items():
            pixels = draw(batch, frames, channels, *wrong)
            if self.wrong_size is None:
                model(**self.with_pixels(pixels))
                continue
            with pytest.raises(ValueError, match=self.wrong_size) as error:
                model(**self.with_pixels(pixels))
            assert side in str(error.value)

    # Kernels

    def test_eager_and_sdpa_attention_agree_in_results_and_gradients(self) -> None:
        eager, sdpa = self.model(attn_implementation="eager"), self.model(attn_implementation="sdpa")
        assert (eager.config._attn_implementation, sdpa.config._attn_implementation) == ("eager", "sdpa")
        expected, actual = eager(**self.inputs()), sdpa(**self.inputs())
        assert_same(actual, expected, atol=1e-5, rtol=1e-5)
        assert_same(present(gradients(sdpa, actual)), present(gradients(eager, expected)), atol=1e-5, rtol=1e-4)

    @torch.no_grad()
    def test_every_attention_asks_transformers_for_its_kernel(self) -> None:
        model, inputs = self.model(attn_implementation="sdpa"), self.inputs()
        expected, asked = model(**inputs), set()

        def remembering(module, *args, **kwargs):
            asked.add(module)
            return ALL_ATTENTION_FUNCTIONS["sdpa"](module, *args, **kwargs)

        ALL_ATTENTION_FUNCTIONS.register("remembering", remembering)
        ALL_MASK_ATTENTION_FUNCTIONS.register("remembering", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
        try:
            model.set_attn_implementation("remembering")
            assert_same(model(**inputs), expected)
        finally:
            del ALL_ATTENTION_FUNCTIONS._global_mapping["remembering"]
            del ALL_MASK_ATTENTION_FUNCTIONS._global_mapping["remembering"]
        names = {name for name, module in model.named_modules() if "Attention" in type(module).__name__}
        assert {name for name, module in model.named_modules() if module in asked} == names

    # Hooks and replaced layers: what offloading, adapters and quantisation rely on

    @torch.no_grad()
    def test_every_module_with_weights_is_called(self) -> None:
        model, called = self.model(), set()
        for module in model.modules():
            module.register_forward_hook(lambda module, *_: called.add(module))
        model(**self.inputs())
        owners = {name for name, module in model.named_modules() if list(module.parameters(recurse=False))}
        assert {name for name, module in model.named_modules() if module in called} >= owners

    @torch.no_grad()
    def test_every_linear_layer_can_be_replaced_by_one_with_an_adapter(self) -> None:
        model, inputs = self.model(), self.inputs()
        expected = list(tensors_of(model(**inputs)).values())
        layers = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
        assert layers
        for name, layer in layers.items():
            adapter = WithAdapter(layer)
            model.set_submodule(name, adapter)
            changed = zip(tensors_of(model(**inputs)).values(), expected, strict=True)
            assert any(not torch.equal(actual, before) for actual, before in changed), f"{name} is passed by"
            adapter.rest = True
        assert_same([*tensors_of(model(**inputs)).values()], expected)

    @torch.no_grad()
    def test_offloaded_weights_come_back_when_they_are_needed(self, tmp_path: Path) -> None:
        accelerate = pytest.importorskip("accelerate")
        inputs, cpu = self.inputs(), torch.device("cpu")
        expected = self.calls(self.model(), inputs)
        model = accelerate.cpu_offload(self.model(), execution_device=cpu)
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        assert_same(self.calls(model, inputs), expected)
        # Weights in a mapped file lie at other addresses, for which the kernels round differently.
        model = accelerate.disk_offload(self.model(), tmp_path / "disk", execution_device=cpu)
        assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
        assert_same(self.calls(model, inputs), expected, atol=1e-6, rtol=1e-6)

    @torch.no_grad()
    @pytest.mark.parametrize("first", EITHER_HALF)
    def test_a_device_map_may_leave_any_half_on_the_disk(self, first: int, tmp_path: Path) -> None:
        pytest.importorskip("accelerate")
        model, inputs = self.model(), self.inputs()
        model.save_pretrained(tmp_path)
        expected, device_map = self.calls(model, inputs), half_on_disk(model, first)
        model = self.model_class.from_pretrained(tmp_path, device_map=device_map, offload_folder=tmp_path / "disk")
        assert {parameter.device.type for parameter in model.parameters()} == {"cpu", "meta"}
        assert_same(self.calls(model, inputs), expected, atol=1e-6, rtol=1e-6)

    @torch.no_grad()
    @pytest.mark.parametrize("first", EITHER_HALF)
    @pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
    def test_a_device_map_may_put_any_half_on_another_device(self, first: int) -> None:
        pytest.importorskip("accelerate")
        model, inputs = self.model(), self.inputs()
        with FakeTensorMode():
            on_two_devices(model, first)
            inputs = {k: empty_like(v) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
            found = tensors_of(self.calls(model, inputs))
        assert {str(tensor.device) for name, tensor in found.items() if name.startswith("forward.")} == {MAIN}

    # Training

    def test_gradients_reach_every_parameter(self) -> None:
        model = self.model()
        for name, gradient in gradients(model, model(**self.inputs())).items():
            if any(part in name for part in self.without_gradient):
                continue
            assert gradient is not None, f"{name} gets no gradient"
            # A bias of the keys moves all scores of a query alike, which softmax does not see.
            assert gradient.any() or name.endswith("k_proj.bias"), f"the gradient of {name} is zero"
            assert gradient.isfinite().all(), name

    def test_activation_checkpointing_computes_twice_and_changes_no_gradient(self) -> None:
        results, counts = [], []
        for checkpointing in (False, True):
            model = self.model().train()
            layers = {n: m for n, m in model.named_modules() if isinstance(m, GradientCheckpointingLayer)}
            calls = dict.fromkeys(layers, 0)
            counts.append(calls)
            for name, layer in layers.items():
                # transformers checkpoints inside a layer's own hooks, so a child of it does the counting.
                next(layer.children()).register_forward_pre_hook(
                    lambda *_, name=name, calls=calls: calls.update({name: calls[name] + 1})
                )
            if checkpointing:
                model.activation_checkpointing_enable()
            torch.manual_seed(0)  # for dropout
            outputs = model(**self.inputs())
            results.append(present(gradients(model, outputs)))
        once, twice = counts
        assert once and all(once.values()), once
        assert twice == {name: 2 * count for name, count in once.items()}
        assert_same(results[1], results[0], atol=1e-6, rtol=1e-5)

    def test_loss_of_a_trainer_step_does_not_depend_on_accumulation(self, tmp_path: Path) -> None:
        accepts = getattr(self.model_class, "accepts_loss_kwargs", None)
        if self.loss_over is None:
            assert getattr(self.model()(**self.inputs()), "loss", None) is None, "name what the loss is a mean over"
        elif self.loss_over == "pairs":
            assert accepts is False, "Trainer would sum this loss over accumulation steps"
        else:
            assert self.loss_over == "samples"
            whole, parts = (self._trained(tmp_path, size, 4 // size) for size in (4, 1))
            # Products of fewer rows are summed in another order: 1.6e-6 on some processors.
            assert_same(parts, whole, atol=5e-6, rtol=1e-5)
            start = self.model().state_dict()
            assert any(not torch.equal(whole[name], start[name]) for name in start), "the step changed nothing"

    def _trained(self, folder: Path, batch_size: int, accumulation: int) -> dict[str, torch.Tensor]:
        """Return the weights after one step of plain gradient descent on four samples."""
        model, inputs = self.model(), self.inputs()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # dropout draws other numbers for other batches
        inputs = {key: value.repeat_interleave(2, dim=0)[:4] for key, value in inputs.items()}
        arguments = TrainingArguments(
            output_dir=str(folder),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            max_steps=1,
            optim="sgd",
            learning_rate=0.1,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,
            save_strategy="no",
            remove_unused_columns=False,
            disable_tqdm=True,
            use_cpu=True,
        )
        samples = [{key: value[index] for key, value in inputs.items()} for index in range(4)]
        Trainer(model, arguments, train_dataset=samples).train()
        return model.state_dict()

    # Precision, compilation, export

    @torch.no_grad()
    @pytest.mark.parametrize("dtype", HALF_PRECISION, ids=str)
    def test_half_precision_keeps_its_type_and_stays_close(self, dtype: torch.dtype, tmp_path: Path) -> None:
        expected = tensors_of(self.model()(**self.inputs()))
        half = self.model().to(dtype)
        # Pixels stay in float32, as the processor makes them.
        for name, tensor in self.computed(half(**self.inputs())).items():
            if expected[name].is_floating_point():
                assert tensor.dtype == (torch.float32 if name in self.in_float32 else dtype), name
                size = max(expected[name].square().mean().sqrt(), self.cancelling.get(name, 0.0))
                error = (tensor.float() - expected[name]).square().mean().sqrt() / size
                assert error < HALF_PRECISION[dtype], f"{name} is {error:.1%} off"
        half.save_pretrained(tmp_path)
        assert {p.dtype for p in self.model_class.from_pretrained(tmp_path).parameters()} == {dtype}

    @pytest.mark.slow
    def test_whole_graph_compiles_for_any_number_of_frames(self) -> None:
        # The graph is what can break; code generation is PyTorch's part, so a backend that generates none will do.
        model, inputs = self.model(), self.inputs()
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        if self.frame_counts:
            torch._dynamo.mark_dynamic(inputs["pixel_values_videos"], 1)
        expected, actual = model(**inputs), compiled(**inputs)
        assert_same(actual, expected, atol=1e-6, rtol=1e-5)
        expected = present(gradients(model, expected))
        assert_same(present(gradients(model, actual)), expected, atol=1e-6, rtol=1e-5)
        shape = inputs["pixel_values_videos"].shape
        for frames in [count for count in self.frame_counts if count > 1]:
            more = self.with_pixels(draw(shape[0], frames, *shape[2:]))
            with torch._dynamo.config.patch(error_on_recompile=True):
                assert_same(compiled(**more), model(**more), atol=1e-6, rtol=1e-5)
        torch._dynamo.reset()

    @torch.no_grad()
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        losses = ("labels", "return_loss")  # which exporters refuse
        model, inputs = self.model(), {key: value for key, value in self.inputs().items() if key not in losses}
        exported = DynamoExporter().export(model, inputs, config=DynamoConfig(dynamic=True))
        bigger = {k: torch.cat([v, v.flip(0)]) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
        shape = bigger["pixel_values_videos"].shape
        for frames in (shape[1], *(count for count in self.frame_counts if count > 1)):
            bigger["pixel_values_videos"] = draw(shape[0], frames, *shape[2:])
            assert_same(dict(exported(**bigger)), dict(model(**bigger)), atol=1e-5, rtol=1e-5)


def assert_compiles(model: PreTrainedModel, several_inputs: Iterable[dict[str, Any]]) -> None:
    """Check that the whole graph compiles, and gives the same results and gradients for each of several inputs.

    The graph is what can break; code generation is PyTorch's part, so a backend that generates none will do.
    """
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for inputs in several_inputs:
        expected, actual = model(**inputs), compiled(**inputs)
        assert_same(actual, expected, atol=1e-6, rtol=1e-5)
        expected = present(gradients(model, expected))
        assert_same(present(gradients(model, actual)), expected, atol=1e-6, rtol=1e-5)
    torch._dynamo.reset()


class WithAdapter(nn.Module):
    """A linear layer with a low-rank addition, and no weight of its own to read."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.layer, self.rest = layer, False
        self.down, self.up = nn.Linear(layer.in_features, 2), nn.Linear(2, layer.out_features)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.layer(inputs) if self.rest else self.layer(inputs) + self.up(self.down(inputs))


class ExportedInAnother:
    """For a model whose layers, but for linear ones, are exported in the default suite as parts of other models."""

    @pytest.mark.slow
    def test_exported_program_takes_other_batches_and_frame_counts(self) -> None:
        super().test_exported_program_takes_other_batches_and_frame_counts()


class TowersAlone:
    """Dual encoders also run one tower at a time, some with words hidden."""

    def calls(self, model: PreTrainedModel, inputs: dict[str, Any]) -> dict[str, Any]:
        words = inputs["input_ids"]
        hidden = (
            {"bool_masked_pos": words == words[0, 1]} if hasattr(model.text_model.embeddings, "mask_embedding") else {}
        )
        return super().calls(model, inputs) | {
            "video": model.get_video_features(inputs["pixel_values_videos"]),
            "text": model.get_text_features(words),
            "hidden words": model.get_text_features(words, **hidden),
        }


def present(tensors: Mapping[str, torch.Tensor | None]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def one_sample(value: Any) -> Any:
    return value[:1] if isinstance(value, torch.Tensor) else value


def assert_alike(drawn: torch.Tensor, fresh: torch.Tensor, name: str) -> None:
    """Both are the same constant, or random with the same spread."""
    spread, expected = drawn.float().std(correction=0), fresh.float().std(correction=0)
    if expected == 0:
        assert torch.equal(drawn, fresh), f"{name} should start at {fresh.flatten()[0]:.4g}"
    else:
        # The spread of n numbers is known to one part in sqrt(2 n); both are estimates.
        assert abs(spread / expected - 1) < 5 / drawn.numel() ** 0.5, f"{name}: spread {spread}, expected {expected}"
