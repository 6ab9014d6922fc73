"""A model run as the sweep runs it."""

from sottovoce.calibration.collect import State


def through_units(model, clip):
    """(1, tokens, vocabulary): what is left of a clip behind the last unit, the logits."""
    encoder, decoder = model.stacks
    state = State(*encoder.enter(clip, None, None))
    for unit in encoder.units:
        state.hidden = unit.run(state.hidden, state.context)
    state = State(*decoder.enter(clip, state.hidden, state.context))
    for unit in decoder.units:
        state.hidden = unit.run(state.hidden, state.context)
    return state.hidden
