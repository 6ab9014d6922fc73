"""A model run as the sweep runs it."""

from sottovoce.calibration.collect import State


def through_units(model, clip):
    """(1, tokens or frames, vocabulary): what is left of a clip behind the last unit, the logits."""
    hidden, context = None, None
    for stack in model.stacks:
        state = State(*stack.enter(clip, hidden, context))
        for unit in stack.units:
            state.hidden = unit.run(state.hidden, state.context)
        hidden, context = state.hidden, state.context
    return hidden
