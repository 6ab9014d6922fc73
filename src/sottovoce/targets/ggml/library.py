"""The shared library of whisper.cpp in pywhispercpp's wheel, whose own wrapper passes one token and one logit.

Sizes and types are those of whisper.h; the version is held by the runtime's table of packages.
"""

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int, c_size_t, c_void_p
from functools import cache
from typing import Any

_ERROR = 4  # of ggml's levels of a message
_Log = ctypes.CFUNCTYPE(None, c_int, c_char_p, c_void_p)


class Params(ctypes.Structure):
    """struct whisper_context_params."""

    _fields_ = (
        ("use_gpu", c_bool),
        ("flash_attn", c_bool),
        ("gpu_device", c_int),
        ("dtw_token_timestamps", c_bool),
        ("dtw_aheads_preset", c_int),
        ("dtw_n_top", c_int),
        ("dtw_n_heads", c_size_t),
        ("dtw_heads", c_void_p),
        ("dtw_mem_size", c_size_t),
    )


_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "whisper_context_default_params": (Params,),
    "whisper_init_from_file_with_params": (c_void_p, c_char_p, Params),
    "whisper_free": (None, c_void_p),
    "whisper_n_vocab": (c_int, c_void_p),
    "whisper_set_mel": (c_int, c_void_p, c_void_p, c_int, c_int),
    "whisper_encode": (c_int, c_void_p, c_int, c_int),
    "whisper_decode": (c_int, c_void_p, POINTER(c_int), c_int, c_int, c_int),
    "whisper_get_logits": (POINTER(c_float), c_void_p),
    "whisper_log_set": (None, _Log, c_void_p),
}


class Library:
    """The functions of whisper.h that a step engine needs; what they complain of is kept, not printed."""

    def __init__(self) -> None:
        import _pywhispercpp

        self._found = ctypes.CDLL(_pywhispercpp.__file__)  # a look-up goes on in what it is linked with
        for name, (result, *given) in _SIGNATURES.items():
            function = getattr(self._found, name)
            function.restype, function.argtypes = result, given
        self._errors: list[str] = []
        self._log = _Log(self._keep)  # must live as long as the library calls it
        self.call("log_set", self._log, None)

    def call(self, name: str, *given: Any) -> Any:
        """whisper_`name`."""
        return getattr(self._found, f"whisper_{name}")(*given)

    def check(self, fine: bool) -> None:
        """Raise RuntimeError with the library's first complaint since the last check, unless all is fine."""
        told = [*self._errors, "whisper.cpp fails and does not say why"]
        self._errors.clear()
        if not fine:
            raise RuntimeError(told[0])

    def _keep(self, level: int, text: bytes | None, _: Any) -> None:
        if level == _ERROR and text and text.strip():
            self._errors.append(text.decode(errors="replace").strip())


@cache
def library() -> Library:
    """The one library of this process."""
    return Library()
