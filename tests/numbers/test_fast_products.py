import pytest
import torch

from sottovoce.calibration.clips import calibrate
from sottovoce.calibration.collect import collect, head_statistics, memory_statistics, run
from sottovoce.numbers.fast_products import fast_products


def test_fast_products_puts_the_setting_back_even_after_an_error():
    def fail():
        with fast_products():
            assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
            raise ZeroDivisionError

    before = torch.backends.mkldnn.matmul.fp32_precision
    with pytest.raises(ZeroDivisionError):
        fail()
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("function", [calibrate, collect, memory_statistics, head_statistics, run])
def test_what_sees_activations_is_fast(function):
    assert function.__wrapped__.__name__ == function.__name__


def test_a_gram_matrix_of_fast_products_is_as_good_as_its_inputs_in_bfloat16():
    x = torch.randn(1500, 96, generator=torch.Generator().manual_seed(0))
    with fast_products():
        found = x.T @ x
    exact = (x.double().T @ x.double()).float()
    bound = 2**-8 * (x.abs().T @ x.abs())  # each input rounded to 8 bits of mantissa
    assert ((found - exact).abs() <= bound).all()
