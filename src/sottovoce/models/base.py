"""All that a model family tells the rest of its module: its layers, its stacks of units, its sites.

What it says of speech and text is its frontend's. No method knows a model's name, and no model knows a method's. A
family is a subclass of SpeechModel around transformers' own modules; what all families share is here, and what those
share that write token by token is in encoder_decoder.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from sottovoce.models.checkpoint import Checkpoint
from sottovoce.models.companions import OWN, open_processor, write_companions
from sottovoce.models.decoding import DecodingRules
from sottovoce.models.fit import blamed_on_config, check_fit
from sottovoce.models.frontend import Frontend, open_frontend
from sottovoce.models.names import BLOCK, HEAD, is_cached
from sottovoce.models.structure import WIDER, Clip, Context, Encoded, Inner, Stack
from sottovoce.models.widths import cut_modules, inner_widths, narrowed, own_widths, tell_widths, told_own
from sottovoce.numbers.rounding import Rounding
from sottovoce.weights.cost import Product, Workload
from sottovoce.weights.input_path import InputPath, InputPaths, Turn
from sottovoce.weights.weight import Kind, Layer, LayerShape, Weight


class SpeechModel(ABC):
    """A list of stacks: transformers' module and what the house needs to know of it.

    module_class  transformers' class
    root          the module inside it whose parts layers and sites name
    head_name     the layer that scores tokens, beside the root
    depth         by stack, the keys of config.json that count its blocks
    widths        by stack and kind of Inner, the key of config.json that counts heads or neurons in each block
    idle          tensors that a checkpoint may hold and that only a training of its own reads
    """

    module_class: ClassVar[str]
    root: ClassVar[str] = "model"
    head_name: ClassVar[str] = HEAD
    depth: ClassVar[Mapping[str, tuple[str, ...]]]
    widths: ClassVar[Mapping[tuple[str, str], str]]
    idle: ClassVar[tuple[str, ...]] = ()
    module: Any

    def __init__(
        self,
        checkpoint: Checkpoint,
        module: Any,
        stored_dtypes: Mapping[str, torch.dtype],
        frontend: Frontend | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.frontend = frontend or open_frontend(checkpoint)
        self.module = module.eval()
        self.paths = InputPaths()
        self.cached_roundings: dict[str, Rounding] = {}
        self.stored_dtypes = dict(stored_dtypes)
        self.settings: dict[str, Any] = {}  # of its configuration files, what is not as the checkpoint has it
        self.files: dict[str, str | None] = {}  # those that are written anew, None for one that is left out

    @classmethod
    def with_weights(cls, checkpoint: Checkpoint) -> Self:
        """The checkpoint in float32; each tensor's stored dtype is remembered for saving."""
        from transformers.utils import logging

        logging.disable_progress_bar()
        logging.set_verbosity_error()  # what does not fit is in the report, and told below
        frontend = open_frontend(checkpoint)  # before the weights, which take longer
        with blamed_on_config(checkpoint):
            loaded, report = cls._class(checkpoint, frontend).from_pretrained(
                checkpoint.folder,
                dtype=torch.float32,
                local_files_only=True,
                attn_implementation="sdpa",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report
            )
        check_fit(checkpoint, report, cls.root, cls.idle)
        loaded = cls._prepared(checkpoint, loaded)
        return cls(checkpoint, loaded, cls._stored(checkpoint.dtypes), frontend)

    @classmethod
    def without_weights(cls, checkpoint: Checkpoint, device: str = "meta") -> Self:
        """The module of the config alone: on "meta" it has shapes only, on "cpu" weights that mean nothing."""
        from transformers import AutoConfig
        from transformers.initialization import no_init_weights

        frontend = open_frontend(checkpoint)
        with blamed_on_config(checkpoint), torch.device(device), no_init_weights():
            config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
            config._attn_implementation = "sdpa"
            module = cls._class(checkpoint, frontend)(config)
        module.tie_weights()
        return cls(checkpoint, cls._prepared(checkpoint, module).float(), {}, frontend)

    @classmethod
    def _prepared(cls, checkpoint: Checkpoint, module: Any) -> Any:
        """A module as transformers made it, with one module and one weight for each layer."""
        return module

    @classmethod
    def _stored(cls, dtypes: Mapping[str, torch.dtype]) -> Mapping[str, torch.dtype]:
        """The dtypes of a checkpoint's tensors by the names that they have after `_prepared`."""
        return dtypes

    def again(self) -> Self:
        """The layout of the same checkpoint, to be changed."""
        return type(self).without_weights(self.checkpoint)

    @classmethod
    def _class(cls, checkpoint: Checkpoint, frontend: Frontend) -> Any:
        import transformers

        plain = getattr(transformers, cls.module_class)
        return narrowed(plain, own_widths(checkpoint), cls, checkpoint, frontend)

    def write_companions(self, folder: Path) -> None:
        """Write the files beside the weights as this model, which may have changed since it was opened, needs them."""
        own = {**self.frontend.own, **told_own(self)}
        settings = {**self.settings, OWN: own} if own or OWN in self.frontend.config else self.settings
        write_companions(self.checkpoint.folder, folder, settings, self.files)

    # --- layers -------------------------------------------------------------------------------

    @classmethod
    def full_name(cls, name: str) -> str:
        """The name in transformers' module of what layers and sites call `name`."""
        return name if name == cls.head_name else f"{cls.root}.{name}"

    def find(self, name: str) -> nn.Module:
        """The module called `name`, as layers and sites name it: without the root's name before it."""
        found = self.module.get_submodule(self.full_name(name))
        assert isinstance(found, nn.Module)
        return found

    @property
    def tied(self) -> bool:
        """Whether the head is the table of tokens too, as one layer."""
        return False

    @cached_property
    def shapes(self) -> dict[str, LayerShape]:
        """Every compressible layer by name, in the order of the module; a tied head is its embedding."""
        shapes = {}
        for full, module in self.module.named_modules():
            name = full.removeprefix(f"{self.root}.")
            if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Embedding)) or (name == self.head_name and self.tied):
                continue
            kind: Kind = (
                "linear" if isinstance(module, nn.Linear) else "conv" if isinstance(module, nn.Conv1d) else "embedding"
            )
            shapes[name] = LayerShape(
                name,
                kind,
                module.weight.shape[0],
                module.weight[0].numel(),
                multiplies=kind != "embedding" or self._is_head(module),
                cached=is_cached(name),
            )
        return shapes

    @cached_property
    def components(self) -> dict[str, frozenset[str]]:
        """Of every layer, the names by which a recipe may choose it: its stack, its component and what holds that."""
        found: dict[str, frozenset[str]] = {}
        for stack in self.stacks:
            for site in (site for unit in stack.units for site in unit.sites if site.collected != "out"):
                tied = {"head"} if site.collected == "head" else set()
                names = frozenset({stack.name, site.component, *WIDER.get(site.component, ()), *tied})
                found |= dict.fromkeys(site.readers, names)
        return found

    def layers(self) -> dict[str, Layer]:
        """Every compressible layer with its weight as the checkpoint stores it."""
        for name, tensor in self.module.state_dict().items():
            if not torch.isfinite(tensor).all():
                raise ValueError(
                    f"{self.checkpoint.name}: {name} holds values that are not finite, so nothing can be fitted to it"
                )
        layers = {}
        for name, shape in self.shapes.items():
            stored = self.stored_dtypes.get(f"{self.full_name(name)}.weight", torch.float32)
            module = self.find(name)
            base = module.weight.detach().reshape(shape.rows, shape.columns).clone().to(stored)  # type: ignore[operator]
            [kernel] = module.kernel_size if isinstance(module, nn.Conv1d) else (1,)
            layers[name] = Layer(name, shape.kind, Weight(base), base.float(), kernel=kernel)
        return layers

    @torch.no_grad()
    def assign(self, layer: Layer) -> None:
        """Write a layer's weight, its input's path and its output's rounding: the only line that does.

        copy_ keeps a tied head tied. The path of a tied embedding is that of the head's input.
        """
        module = self.find(layer.name)
        weight = module.weight
        assert isinstance(weight, Tensor)
        weight.copy_(layer.weight.dense().view_as(weight))
        if layer.input and not self.shapes[layer.name].multiplies:
            raise ValueError(
                f"{layer.name} is an embedding that is only looked up, so it has no input to quantize or rotate"
            )
        self.paths.set(layer.name, self.multiplies_by(layer.name), layer.input)
        self.cached_roundings.pop(layer.name, None)
        if layer.output is not None:
            self.cached_roundings[layer.name] = layer.output

    def multiplies_by(self, name: str) -> nn.Module:
        """The module whose forward multiplies by a layer's weight: a tied embedding's is the head."""
        module = self.find(name)
        return self.head if self._is_head(module) else module

    @property
    def head(self) -> nn.Module:
        """What scores tokens, from what leaves the last stack."""
        head: nn.Module = getattr(self.module, self.head_name)
        return head

    @head.setter
    def head(self, head: nn.Module) -> None:
        setattr(self.module, self.head_name, head)

    def blocks(self, stack: str) -> dict[str, nn.Module]:
        """The blocks of a stack, "encoder" or "decoder", by name in their order."""
        layers = getattr(getattr(self.module, self.root), stack).layers
        return {f"{stack}.layers.{i}": block for i, block in enumerate(layers)}

    def drop_blocks(self, dropped: Collection[str]) -> dict[str, str]:
        """Leave out whole blocks: the name now of every layer that stays, by the one that it had.

        config.json will say so. Raises ValueError for a block that there is not, or a stack that would have none.
        """
        known = {name for stack in self.depth for name in self.blocks(stack)}
        if missing := sorted(set(dropped) - known):
            raise ValueError(f"{self.checkpoint.name} has no block {missing[0]}; there are {', '.join(sorted(known))}")
        layers = list(self.shapes)
        renamed: dict[str, str] = {}
        for stack in self.depth:
            kept = [name for name in self.blocks(stack) if name not in dropped]
            if not kept:
                raise ValueError(f"dropping every block of the {stack} leaves no model; keep one at least")
            renamed |= {name: f"{stack}.layers.{i}" for i, name in enumerate(kept)}
            self._keep_blocks(stack, [int(name.rpartition(".")[2]) for name in kept])
        self.forget_layout()
        tell_widths(self)
        by_tensor = {self.full_name(old): self.full_name(new) for old, new in renamed.items()}
        left = {self.full_name(name) for name in dropped}
        self.stored_dtypes = {
            _renamed(name, by_tensor): dtype
            for name, dtype in self.stored_dtypes.items()
            if _block_of(name) not in left
        }
        return {name: _renamed(name, renamed) for name in layers if _block_of(name) not in dropped}

    def _keep_blocks(self, stack: str, places: Sequence[int]) -> None:
        inner = getattr(getattr(self.module, self.root), stack)
        inner.layers = nn.ModuleList(inner.layers[place] for place in places)
        for i, block in enumerate(inner.layers):
            for module in block.modules():
                if hasattr(module, "layer_idx"):  # its place in the cache
                    module.layer_idx = i
        self.change_config(dict.fromkeys(self.depth[stack], len(places)))

    @property
    def inner(self) -> tuple[Inner, ...]:
        """The widths inside the blocks of all stacks: heads and neurons."""
        return tuple(inner for _, inner in inner_widths(self))

    def keep_inner(self, inner: Inner, kept: Tensor) -> None:
        """Leave the heads or neurons `kept` (n,) int64, rising, of one Inner; config.json will say so."""
        cut_modules(self, inner, kept)
        tell_widths(self)

    @classmethod
    def attend_with(cls, attention: Any, heads: int) -> None:
        """Let transformers' module of an attention have so many heads."""
        attention.num_heads = heads

    def change_config(self, settings: Mapping[str, Any]) -> None:
        """Change keys of config.json, and of the config of every module that has them."""
        self.settings |= settings
        for config in self._configs():
            for key, value in settings.items():
                if hasattr(config, key):
                    setattr(config, key, value)

    def forget_layout(self) -> None:
        """Find shapes and stacks anew when they are asked for next: the modules are others now."""
        for cached in ("shapes", "components", "stacks"):
            vars(self).pop(cached, None)

    def _configs(self) -> Iterator[Any]:
        """transformers' config of every module that has one; some share theirs."""
        return (module.config for module in self.module.modules() if getattr(module, "config", None) is not None)

    @property
    def head_layer(self) -> str:
        """The layer that the head multiplies by."""
        return self.head_name

    @property
    def unstored(self) -> frozenset[str]:
        """The tensors of the module's state that a checkpoint does not hold."""
        return frozenset()

    def attend_by(self, name: str) -> None:
        """Let all attention be computed by the function that transformers has under that name."""
        for config in self._configs():
            config._attn_implementation = name

    def to(self, device: str) -> None:
        """Move the module and the paths of its inputs to a device."""
        self.module.to(device)
        self.paths.to(device)

    def _is_head(self, module: nn.Module) -> bool:
        return self.head.weight is module.weight

    @property
    def turns(self) -> dict[str, Turn]:
        """Changes of basis at the entry of modules that are no layers: where a turned stream begins and ends."""
        return {name: path.turn for name, path in self.paths.paths.items() if name not in self.shapes and path.turn}

    def set_turn(self, name: str, turn: Turn | None) -> None:
        """Turn what a block or a norm is given; None takes it back."""
        self.paths.set(name, self.find(name), InputPath(turn))

    # --- structure ----------------------------------------------------------------------------

    @property
    @abstractmethod
    def stacks(self) -> tuple[Stack, ...]:
        """The stacks that a clip passes in turn, made once; the last unit of the last one scores tokens."""

    def _enter_features(self, clip: Clip, memory: Tensor | None, before: Context | None) -> tuple[Tensor, Context]:
        """How a clip enters the first stack."""
        return self.taken(clip), Context(self.valid_positions(clip.samples))

    def taken(self, clip: Clip) -> Tensor:
        """Of a clip's features, which may have been made before the model was changed, what the encoder takes."""
        return self.frontend.taken(clip.features, clip.samples)

    @abstractmethod
    def valid_positions(self, samples: int) -> dict[str, int]:
        """How many positions of a clip count, padding left out, for every `over` of the first stack's sites."""

    def memory_positions(self, samples: int) -> int:
        """Of those, how many are left in what the first stack puts out."""
        return self.valid_positions(samples)["frames"]

    @abstractmethod
    def products(self, workload: Workload) -> list[Product]:
        """Every multiplication of one utterance of that length, for cost.py."""

    # --- speech and text: the frontend's ---------------------------------------------------------

    @property
    def sampling_rate(self) -> int:
        """Samples a second that `features` expects."""
        return self.frontend.sampling_rate

    @property
    def most_seconds(self) -> float | None:
        """The longest clip that the encoder takes whole; None if any length."""
        return self.frontend.most_seconds

    @property
    def least_samples(self) -> int:
        """The shortest clip that the encoder takes."""
        return self.frontend.least_samples

    def features(self, audio: np.ndarray) -> Tensor:
        """(samples,) float32 -> the encoder's input for one clip, (1, ...) float32."""
        return torch.from_numpy(self.frontend.features(audio))

    def rules(self, language: str | None = None, task: str | None = None) -> DecodingRules:
        """Prompt, suppressed tokens, end and longest output for these settings."""
        return self.frontend.rules(language, task)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without special tokens."""
        return self.frontend.text(tokens)

    @cached_property
    def processor(self) -> Any:
        """transformers' own feature extractor and tokenizer, for what converts them to other formats."""
        return open_processor(self.checkpoint)

    # --- passes ---------------------------------------------------------------------------------

    @abstractmethod
    def frames(self, features: Tensor) -> int:
        """The encoder's positions for the features of one clip, padding of the window included."""

    @abstractmethod
    def encode(self, features: Sequence[Tensor]) -> Encoded:
        """The encoder's output for a batch, the same for each clip whatever the batch."""

    @abstractmethod
    def encode_together(self, features: Sequence[Tensor]) -> Encoded:
        """The same up to rounding, which then depends on the batch: in one pass, as training is fastest."""


def _block_of(name: str) -> str:
    """The block that a layer or tensor is of, by its name; the empty string if it is of none."""
    found = BLOCK.match(name)
    return found[0] if found else ""


def _renamed(name: str, blocks: Mapping[str, str]) -> str:
    block = _block_of(name)
    return blocks.get(block, block) + name.removeprefix(block)
