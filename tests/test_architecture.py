import ast
import re
from pathlib import Path

import pytest
from tools.architecture import first_line, page
from tools.imports import floors, graphs, modules

DOCUMENT = Path(__file__).parent.parent / "docs" / "architecture.md"
BETWEEN, ROOMS = graphs()


def test_there_is_no_ring_of_files():
    assert floors(BETWEEN)


def test_there_is_no_ring_of_rooms():
    assert max(floors(ROOMS).values()) <= 16


def test_a_ring_is_named():
    with pytest.raises(ValueError, match="b -> c -> b"):
        floors({"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("b")})


def test_imports_within_functions_count_and_those_for_type_checkers_do_not():
    assert "sottovoce.timing.bench" in BETWEEN["sottovoce.cli.timing"]
    assert "sottovoce.models.base" not in BETWEEN["sottovoce.training.recover"]


@pytest.mark.parametrize("module", modules())
def test_every_file_begins_with_what_it_is_for(module):
    assert first_line(modules()[module])


def test_the_document_is_the_one_that_make_docs_writes():
    assert DOCUMENT.read_text(encoding="utf-8") == page()


FOREIGN = ("targets/ctranslate2/places.py", "targets/ggml/names.py")  # tables from transformers' names to another's
NAMES = re.compile(r"proj_out|encoder_attn|embed_tokens|model\.(encoder|decoder)\b")


def test_transformers_names_of_modules_stand_in_models_alone():
    for module, path in modules().items():
        if module.startswith("sottovoce.models") or str(path).endswith(FOREIGN):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            said = ast.unparse(node) if isinstance(node, ast.Attribute) else getattr(node, "value", "")
            if isinstance(said, str) and id(node) not in texts:
                assert not NAMES.search(said), (module, said)
