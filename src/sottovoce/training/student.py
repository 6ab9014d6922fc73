"""A model in training: its layers by their latents, norms and biases beside them as they are."""

from collections.abc import Mapping
from contextlib import suppress

import torch
from torch.nn import Parameter

from sottovoce.models.base import SpeechModel
from sottovoce.training.latent import Latent
from sottovoce.weights.weight import Layer


class ModelStudent:
    """The selected layers of a model, and the norms and biases of the blocks that they stand in.

    Parts stay the truth while a model learns: before each pass a layer's weight is made of its latent and
    assigned; after it, the gradient of the module's weight is carried back.
    """

    def __init__(
        self,
        model: SpeechModel,
        layers: Mapping[str, Layer],
        latents: Mapping[str, Latent],
        *,
        rest: bool = True,
        checkpoint_activations: bool = False,
    ) -> None:
        self.model, self.layers, self.latents = model, layers, latents
        self.rest = self._rest() if rest else {}
        self.dtypes = {name: self._dtype(name, parameter) for name, parameter in self.rest.items()}
        self.checkpoint_activations = checkpoint_activations
        learning = {id(model.find(name).weight) for name in latents} | {id(p) for p in self.rest.values()}
        self.frozen = [p for p in model.module.parameters() if p.requires_grad and id(p) not in learning]
        self.thawed = [w for name in latents if not (w := self._weight(name)).requires_grad]
        self._freeze(True)

    def _freeze(self, on: bool) -> None:
        for parameter in self.frozen:
            parameter.requires_grad_(not on)
        for parameter in self.thawed:
            parameter.requires_grad_(on)

    def _weight(self, name: str) -> Parameter:
        weight = self.model.find(name).weight
        assert isinstance(weight, Parameter)
        return weight

    def _rest(self) -> dict[str, Parameter]:
        """Trainable parameters that are no layer's weight, in the blocks of the selected layers."""
        weights = {id(self._weight(name)) for name in self.model.shapes}
        blocks = {_block(name) for name in self.latents}
        return {
            name: parameter
            for full, parameter in self.model.module.named_parameters()
            if id(parameter) not in weights
            and parameter.requires_grad
            and _block(name := full.removeprefix("model.")) in blocks
        }

    def _dtype(self, name: str, parameter: Parameter) -> torch.dtype:
        """What a norm or bias will be stored in: the checkpoint's dtype, if nothing has moved it off that before."""
        stored = self.model.stored_dtypes.get(self.model.full_name(name), torch.float32)
        return stored if torch.equal(parameter.to(stored).float(), parameter) else torch.float32

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What the optimizer moves."""
        named = {f"rest.{name}": parameter for name, parameter in self.rest.items()}
        for layer, latent in self.latents.items():
            named |= {f"layers.{layer}.{part}": parameter for part, parameter in latent.parameters.items()}
        return named

    def write(self) -> None:
        """Every layer's weight from its latent, into the module."""
        for name, latent in self.latents.items():
            self.layers[name].weight = latent.weight()
            self.model.assign(self.layers[name])
            self._weight(name).grad = None

    def pull(self) -> None:
        """The gradients of the module's weights, where there are any, to the latents."""
        for name, latent in self.latents.items():
            weight = self._weight(name)
            if weight.grad is not None:
                latent.pull(weight.grad.view_as(self.layers[name].target))
                weight.grad = None

    def train(self, mode: bool) -> None:
        """Switch dropout and the recomputing of activations on or off."""
        module = self.model.module
        module.train(mode)
        if self.checkpoint_activations:
            if mode:
                module.gradient_checkpointing_enable({"use_reentrant": False})
            else:
                module.gradient_checkpointing_disable()

    def finish(self) -> None:
        """Leave the model as it will be stored: norms and biases in their dtype, no gradients."""
        self.train(False)
        with torch.no_grad():
            for name, parameter in self.rest.items():
                parameter.copy_(parameter.to(self.dtypes[name]))
        self._freeze(False)
        for parameter in self.model.module.parameters():
            parameter.grad = None
        with suppress(AttributeError):  # transformers keeps a hook on the embedding after checkpointing
            self.model.module.disable_input_require_grads()


def _block(name: str) -> str:
    """The block or stack that a parameter stands in: "encoder.layers.3", "decoder"."""
    parts = name.split(".")
    return ".".join(parts[:3]) if len(parts) > 3 and parts[1] == "layers" else parts[0]
