"""An artifact or an export changed as a program would that writes what it should not."""

import hashlib
import json


def rewrite(folder, change, manifest="sottovoce.json"):
    """Change the manifest and give it a digest that fits."""
    path = folder / manifest
    document = json.loads(path.read_text())
    del document["digest"]
    change(document)
    text = json.dumps(document, sort_keys=True, ensure_ascii=False)
    path.write_text(json.dumps({**document, "digest": hashlib.sha256(text.encode()).hexdigest()}))
