import torch

from sottovoce.targets.threads import search_threads
from sottovoce.targets.torch import TorchEngine


class Own:
    own_threads = True


def test_torch_searches_in_one_thread_beside_an_engine_that_has_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with search_threads(Own()):
            assert torch.get_num_threads() == 1
        with search_threads(TorchEngine(None)):
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
