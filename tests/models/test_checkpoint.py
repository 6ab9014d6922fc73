import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _http
from safetensors.torch import load_file, save_file

from sottovoce.models.checkpoint import Checkpoint, model_type, resolve
from tests.hub import serve

OLD, NEW, BAD = "1" * 40, "2" * 40, "3" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub's client, which is online and sends no one's token."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_IMPLICIT_TOKEN", True)
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))  # between its tries
    return tmp_path / "cache"


@pytest.fixture
def repository(tmp_path):
    """Two commits of one repository, whose only weight is 1 and then 2."""
    return {
        OLD: write_model(tmp_path / "old", weight=1),
        NEW: write_model(tmp_path / "new", weight=2),
        "main": NEW,
    }


@pytest.fixture
def hub(cache, repository, monkeypatch):
    with serve({"owner/name": repository}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def write_model(folder: Path, weight: float = 1) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    (folder / "tokenizer.json").write_text("{}")
    save_file({"w": torch.full((2, 3), float(weight))}, folder / "model.safetensors")
    return folder


def weight(checkpoint: Checkpoint) -> float:
    return load_file(checkpoint.folder / "model.safetensors")["w"][0, 0].item()


def shard(folder: Path, names: dict[str, str]) -> None:
    for tensor, name in names.items():
        save_file({tensor: torch.ones(2)}, folder / name)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_a_folder_is_its_own_checkpoint(tmp_path):
    folder = write_model(tmp_path / "m")
    assert resolve(folder) == resolve(str(folder)) == Checkpoint(str(folder), folder, None)


def test_a_folder_may_have_an_at_sign_in_its_name(tmp_path):
    folder = write_model(tmp_path / "m@home")
    assert resolve(folder).folder == folder


def test_a_hub_id_is_the_newest_commit(hub):
    checkpoint = resolve("owner/name")
    assert (checkpoint.name, checkpoint.revision, weight(checkpoint)) == ("owner/name", NEW, 2)


def test_a_pinned_revision_keeps_the_old_weights(hub):
    assert weight(resolve(f"owner/name@{OLD}")) == weight(resolve("owner/name", OLD)) == 1
    assert resolve(f"owner/name@{OLD}").name == "owner/name"
    assert resolve("owner/name@main").revision == NEW


def test_a_push_to_the_hub_is_seen_by_main_and_not_by_a_pin(hub, repository):
    repository["main"] = OLD
    assert weight(resolve("owner/name")) == 1
    repository["main"] = NEW
    assert weight(resolve("owner/name")) == 2
    assert weight(resolve(f"owner/name@{OLD}")) == 1


def test_a_cached_pin_fetches_nothing_again(hub):
    resolve(f"owner/name@{OLD}")
    hub.requests.clear()
    resolve(f"owner/name@{OLD}")
    assert hub.requests == []


@pytest.mark.parametrize("asked", ["owner/name", f"owner/name@{NEW}"])
@pytest.mark.parametrize("listing", ["kept", "lost"])  # older clients cached files without the list of them
def test_without_a_connection_the_cache_answers(cache, repository, monkeypatch, asked, listing):
    with serve({"owner/name": repository}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        online = resolve(asked)
    if listing == "lost":
        from huggingface_hub import _tree_cache

        shutil.rmtree(cache / "models--owner--name" / "trees")
        _tree_cache._IN_MEMORY_TREE_CACHE.clear()
    assert resolve(asked) == online
    assert weight(resolve(asked)) == 2


def test_only_json_text_tokenizers_and_full_safetensors_are_fetched(hub, repository):
    for name in ("pytorch_model.bin", "modeling.py", "model.msgpack", "model.fp32-00001-of-00002.safetensors",
                 "model.fp16.safetensors", "model.safetensors.index.fp32.json", "README.md"):  # fmt: skip
        (repository[NEW] / name).write_bytes(b"not wanted")
    for name in ("merges.txt", "spiece.model"):
        (repository[NEW] / name).write_text(f"wanted {name}")  # equal files share one blob in the cache
    (repository[NEW] / "onnx").mkdir()
    (repository[NEW] / "onnx" / "config.json").write_text("{}")
    resolve("owner/name")
    wanted = {"config.json", "tokenizer.json", "model.safetensors", "merges.txt", "spiece.model"}
    assert hub.fetched() == wanted


def test_the_default_hub_is_the_clients_own(cache, monkeypatch):
    asked = {}
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE")

    def record(repo_id, **options):
        asked.update(options)
        raise ConnectionError("stopped here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", record)
    with pytest.raises(ValueError, match="cannot be reached"):
        resolve("owner/name")
    assert asked["endpoint"] is None
    assert asked["cache_dir"] is None


def test_the_digest_is_of_contents_and_names_and_not_of_places(tmp_path, hub):
    one, same = write_model(tmp_path / "one"), write_model(tmp_path / "same")
    (same / "README.md").write_text("a note")
    assert resolve(one).digest == resolve(same).digest == resolve(f"owner/name@{OLD}").digest
    assert len(resolve(one).digest) == 64


@pytest.mark.parametrize(
    "name", ["config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
             "tokenizer.json", "merges.txt"]
)  # fmt: skip
def test_the_digest_changes_with_every_file_that_decides_a_transcript(tmp_path, name):
    folder = write_model(tmp_path / "m")
    before = resolve(folder).digest
    (folder / name).write_text('{"model_type": "whisper", "changed": true}')
    assert resolve(folder).digest != before


def test_the_digest_changes_with_a_weight(tmp_path):
    one, two = write_model(tmp_path / "one", 1), write_model(tmp_path / "two", 2)
    assert resolve(one).digest != resolve(two).digest


def test_bytes_are_those_of_the_weights_that_are_loaded(tmp_path):
    folder = write_model(tmp_path / "m")
    size = (folder / "model.safetensors").stat().st_size
    save_file({"w": torch.ones(9)}, folder / "model.fp32.safetensors")
    assert resolve(folder).bytes == size
    shard(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    assert resolve(folder).bytes == sum(p.stat().st_size for p in folder.glob("model-*.safetensors"))


def test_model_type_is_what_the_config_says(tmp_path):
    assert model_type(resolve(write_model(tmp_path / "m"))) == "whisper"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{not json", "is not JSON"),
        ("\ufeff{}", "is not JSON"),
        ("[1, 2]", "holds a JSON list"),
        ("{}", "no model_type"),
        ('{"model_type": 3}', "no model_type"),
    ],
)
def test_model_type_refuses_a_config_that_does_not_say(tmp_path, config, message):
    folder = write_model(tmp_path / "m")
    (folder / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        model_type(resolve(folder))


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "../nothing", "~/nothing/here", "a/b/c",
                                  "whisper-tiny", "~no-such-user/x", "", "owner/",
                                  "/name", "owner/na me", "c:\\model", "owner//name"])  # fmt: skip
def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_refused(cache, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is neither a folder here"):
        resolve(name)


def test_a_path_is_never_taken_for_a_hub_id(hub):
    with pytest.raises(ValueError, match="neither a folder here"):
        resolve(Path("owner/name"))
    assert hub.requests == []


def test_a_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is a file; give the folder"):
        resolve(write_model(tmp_path / "m") / "config.json")


def test_a_local_folder_has_no_revision(tmp_path):
    folder = write_model(tmp_path / "m")
    for arguments in [(folder, "main"), (f"{folder}@main",)]:
        with pytest.raises(ValueError, match="local folder and has no revision 'main'"):
            resolve(*arguments)


@pytest.mark.parametrize("arguments", [("owner/name@main", "main"), ("owner/name@",)])
def test_a_revision_is_written_once(cache, arguments):
    with pytest.raises(ValueError, match="write one revision"):
        resolve(*arguments)


def test_a_repository_that_the_hub_lacks_is_refused(hub):
    with pytest.raises(ValueError, match=r"owner/nothing is not a folder here, and .* no such repository"):
        resolve("owner/nothing")


@pytest.mark.parametrize("revision", ["no-such-branch", BAD])
def test_a_revision_that_the_hub_lacks_is_refused(hub, revision):
    with pytest.raises(ValueError, match=f"owner/name has no revision '{revision}'"):
        resolve("owner/name", revision)


def test_an_id_that_the_hub_cannot_have_is_refused(hub):
    with pytest.raises(ValueError, match="nor a hub id"):
        resolve("owner/name--twice")


@pytest.mark.parametrize("revision", [None, "main", OLD])
def test_an_unreachable_hub_and_an_empty_cache_are_refused(cache, repository, monkeypatch, revision):
    with serve({"owner/name": repository}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    with pytest.raises(ValueError, match=r"not complete in the cache, and .* cannot be reached"):
        resolve("owner/name", revision)


def test_an_interrupted_download_is_not_taken_for_a_model(cache, repository, monkeypatch):
    with serve({"owner/name": repository}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        folder = resolve("owner/name").folder
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="not complete in the cache"):
        resolve("owner/name")


def test_a_folder_without_a_config_is_refused(tmp_path):
    folder = write_model(tmp_path / "m")
    (folder / "config.json").unlink()
    with pytest.raises(ValueError, match=r"holds no config\.json"):
        resolve(folder)


@pytest.mark.parametrize(
    ("left", "message"),
    [
        ("pytorch_model.bin", "holds pytorch_model.bin only, which may run code when opened; convert"),
        ("weights.safetensors", "but neither model.safetensors nor model.safetensors.index.json"),
        ("notes.txt", "holds no model.safetensors"),
    ],
)
def test_a_model_without_safetensors_is_refused_here_and_on_the_hub(hub, repository, left, message):
    (repository[NEW] / "model.safetensors").rename(repository[NEW] / left)
    for model in (repository[NEW], "owner/name"):
        with pytest.raises(ValueError, match=message):
            resolve(model)


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", "half"])
def test_safetensors_that_cannot_be_read_are_refused(tmp_path, content):
    path = write_model(tmp_path / "m") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-5] if content == "half" else content)
    with pytest.raises(ValueError, match=r"model\.safetensors, [\d]+ bytes, is not a safetensors file"):
        resolve(tmp_path / "m")


def test_an_index_with_a_missing_shard_is_refused(tmp_path):
    folder = write_model(tmp_path / "m")
    shard(folder, {"a": "model-1.safetensors", "b": "model-2.safetensors"})
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"names model-2\.safetensors, which is missing"):
        resolve(folder)


@pytest.mark.parametrize(
    "index", ["[]", "{}", '{"weight_map": {"a": "../a.safetensors"}}', '{"weight_map": {"a": []}}']
)
def test_an_index_that_does_not_name_files_beside_it_is_refused(tmp_path, index):
    folder = write_model(tmp_path / "m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ValueError, match=r"no weight_map|holds a JSON list"):
        resolve(folder)
