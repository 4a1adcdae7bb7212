import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchgen.errors import ModelError
from batchgen.models.catalog import (
    KnownModel,
    check_model,
    get_model,
    list_models,
    remove_models,
)
from batchgen.models.demo.demo_model import DEMO_MODELS
from batchgen.models.formats.marker import CONVERSION, MARKER
from batchgen.models.hubs.hub import Hub

Write = Callable[..., Path]
DEMO = DEMO_MODELS["demo:smollm2-135m"]


def test_a_demo_model_is_listed_before_it_is_downloaded(tmp_path: Path) -> None:
    listed = list_models(cache=tmp_path, hubs=[Hub(tmp_path / "hub")])

    assert listed == (
        KnownModel(
            "demo:smollm2-135m", "demo", "not downloaded", None, DEMO.wheel.size, "Apache-2.0"
        ),
    )


def test_a_converted_demo_model_is_listed_with_its_folder(tmp_path: Path) -> None:
    folder = DEMO.folder(tmp_path)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    marker = json.dumps({"conversion": CONVERSION, "files": {"config.json": {"size": 2}}})
    (folder / MARKER).write_text(marker)

    (listed,) = list_models(cache=tmp_path, hubs=[Hub(tmp_path / "hub")])

    assert listed == KnownModel(
        "demo:smollm2-135m", "demo", "ready", folder, 2 + len(marker), "Apache-2.0"
    )


def test_models_of_the_hub_cache_are_listed_even_if_incomplete(
    tmp_path: Path, write_model: Write
) -> None:
    hub = Hub(tmp_path / "hub")
    for model_id, changes in (
        ("a/whole", {}),
        ("b/half", {"model.safetensors": None}),
        ("c/tag", {}),
    ):
        write_model(hub.repository(model_id) / "snapshots" / "abc", changes)
        refs = hub.repository(model_id) / "refs" / ("v1" if model_id == "c/tag" else "main")
        refs.parent.mkdir()
        refs.write_text("abc")
    (hub.repository("d/nothing") / "snapshots").mkdir(parents=True)

    _, *listed = list_models(cache=tmp_path, hubs=[hub])

    assert [(m.name, m.state) for m in listed] == [
        ("a/whole", "ready"),
        ("b/half", "incomplete"),
        ("c/tag", "ready"),
        ("d/nothing", "incomplete"),
    ]
    assert listed[0].note == "abc"
    assert "no weights" in listed[1].note
    assert all(m.folder is None or m.bytes > 0 for m in listed)


def test_a_model_of_the_hub_and_a_demo_model_are_removed(
    tmp_path: Path, write_model: Write
) -> None:
    hub = Hub(tmp_path / "hub")
    for name in ("a/gone", "a/stays"):
        write_model(hub.repository(name) / "snapshots" / "abc", {})
    demo = DEMO.folder(tmp_path)
    demo.mkdir(parents=True)

    removed = [
        *remove_models("a/gone", cache=tmp_path, hubs=[hub]),
        *remove_models(DEMO.name, cache=tmp_path, hubs=[hub]),
    ]

    assert removed == [hub.repository("a/gone"), demo]
    assert hub.models() == ("a/stays",)
    assert not demo.exists()
    for name in ("a/gone", DEMO.name, "../hub", str(tmp_path)):
        with pytest.raises(ModelError, match=r"no model .* found a/stays"):
            remove_models(name, cache=tmp_path, hubs=[hub])


def test_downloading_an_existing_model_does_nothing(tmp_path: Path, write_model: Write) -> None:
    folder = write_model(tmp_path / "model")
    before = sorted(tmp_path.rglob("*"))

    assert get_model(str(folder)).folder == folder
    assert sorted(tmp_path.rglob("*")) == before


CHECKS: dict[str, tuple[dict[str, object], dict[str, tuple[str, str]], bool]] = {
    # changes to a complete folder, topic: (verdict, part of the text), usable
    "whole": (
        {},
        {
            "weights": ("ok", "2,088 parameters"),
            "context": ("ok", "64 tokens"),
            "end tokens": ("ok", "generation_config: (257, 0)"),
            "chat template": ("ok", "chat_template.jinja"),
            "tokenizer": ("ok", "fast, pads on the left"),
            "pad token": ("ok", "the end token"),
            "round trip": ("ok", "equal"),
        },
        True,
    ),
    "base model": ({"chat_template.jinja": None}, {"chat template": ("note", "none")}, True),
    "nothing ends it": (
        {
            "config.json": {"model_type": "llama", "vocab_size": 260},
            "generation_config.json": None,
            "tokenizer_config.json": {},
        },
        {
            "end tokens": ("note", "max_new_tokens"),
            "context": ("note", "not stated"),
            "pad token": ("note", "none"),
        },
        True,
    ),
    "code that is not needed": (
        {
            "config.json": {
                "model_type": "llama",
                "vocab_size": 260,
                "auto_map": {"AutoModelForCausalLM": "own.Own"},
            }
        },
        {"code": ("note", "model.trust_remote_code"), "tokenizer": ("ok", "fast")},
        True,
    ),
    "code that is needed": (
        {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["own.Own", None]}}},
        {
            "code": ("note", "model.trust_remote_code"),
            "tokenizer": ("problem", "trust_remote_code: true"),
        },
        False,
    ),
    "damaged tokenizer": (
        {"tokenizer.json": "{}"},
        {"tokenizer": ("problem", "cannot be loaded")},
        False,
    ),
}


@pytest.mark.parametrize(("changes", "expected", "usable"), CHECKS.values(), ids=CHECKS.keys())
def test_check_findings(
    tmp_path: Path,
    write_model: Write,
    changes: dict[str, object],
    expected: dict[str, tuple[str, str]],
    usable: bool,
) -> None:
    check = check_model(str(write_model(tmp_path / "model", changes)))

    found = {finding.topic: finding for finding in check.items}
    for topic, (verdict, text) in expected.items():
        assert (found[topic].verdict, text in found[topic].text) == (verdict, True), found[topic]
    assert check.usable is usable


def test_a_lossy_tokenizer_is_noted(tmp_path: Path, write_model: Write) -> None:
    folder = write_model(tmp_path / "model")
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    content["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(content), "utf-8")

    check = check_model(str(folder))

    (trip,) = [finding for finding in check.items if finding.topic == "round trip"]
    assert trip.verdict == "note"
    assert check.usable
