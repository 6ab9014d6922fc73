"""A short context the plain way: a Whisper that was built with no more positions than the clip has."""

from copy import deepcopy

from transformers import WhisperForConditionalGeneration


def of_positions(module, positions):
    """transformers' own model with a window of so many positions, and the weights of `module`."""
    config = deepcopy(module.config)
    config.max_source_positions = positions
    made = WhisperForConditionalGeneration(config).eval()
    state = dict(module.state_dict())
    table = "model.encoder.embed_positions.weight"
    state[table] = state[table][:positions]
    made.load_state_dict(state)
    return made
