"""docs/reference/refusals.md has every sentence that refuses, and each has a remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lapilli.deploy.cli import frame
from lapilli.deploy.cli.app import app
from lapilli.deploy.surveys.refusals import AREAS, area_of, every_sentence, page, pattern
from lapilli.deploy.surveys.sentences import sentences

DOCS = Path(__file__).resolve().parents[2] / "docs"
SENTENCES = every_sentence()
# What stands for itself: at least so many letters of a message are the sentence's own.
PATTERNS = [re.compile(pattern(s.text)) for s in SENTENCES if sum(map(str.isalpha, s.text)) >= 8]


def known(message: str) -> bool:
    return any(found.search(" ".join(message.split())) for found in PATTERNS)


def test_the_page_is_current() -> None:
    assert page() == (DOCS / "reference" / "refusals.md").read_text(), "old: make pages"


def test_every_sentence_has_a_remedy_and_every_remedy_sentences() -> None:
    used = {area_of(sentence.file).title for sentence in SENTENCES}
    assert used == {area.title for area in AREAS}
    with pytest.raises(LookupError, match=r"new/file.py: refusals without a remedy"):
        area_of("new/file.py")


def test_sentences_of_the_page_of_models_are_here() -> None:
    text = (DOCS / "unsupported.md").read_text()
    told = re.findall(r"^ {4}((?:module|layer) '.*)$", text, re.M)
    assert len(told) > 60
    assert not [message for message in told if not known(message)]


@pytest.mark.parametrize(
    "words",
    [
        "quantize gone.pth -o x.lapilli",
        "quantize gone.py:Net -o x.lapilli",
        "quantize net.py -o x.lapilli --calibration digits",
        "quantize a.pth -o x.lapilli --bits 4 --scales some",
        "inspect bad.lapilli",
        "inspect bad.onnx",
        "run bad.lapilli",
        "run bad.lapilli --source gone",
        "compare bad.lapilli --simulator reference",
        "check bad.nir --for norse",
        "check bad.nir --for nobody",
        "import bad.nir -o x.lapilli --reading mine",
        "import bad.net -o x.lapilli",
        "export bad.lapilli",
        "conformance gone.py:Mine",
        "cost bad.lapilli --chip gone.json",
        "train nothing -o x.safetensors --data gone --epochs 1",
        "validate bad.lapilli --shard 3/2 --share much",
    ],
)
def test_what_a_command_says_is_here(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bad.lapilli", "bad.onnx", "bad.nir", "bad.net", "net.py"):
        (tmp_path / name).write_bytes(b"x = 1\n")
    assert frame.run(app, words.split()) == 2
    assert known(capsys.readouterr().err)


def test_what_nobody_says_is_not_known() -> None:
    assert not known("the moon is no accumulate of cheese")


def test_a_sentence_is_read_off_its_source(tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text(
        "_WHY = 'it has no wheels'\n"
        "def drive(car, fast):\n"
        "    how = 'quickly' if fast else 'slowly'\n"
        "    if car.wheels < 1:\n"
        "        raise CarError(car, f'{car.name!r} goes {how}: {_WHY}')\n"
        "    if fast:\n"
        "        raise TypeError('no refusal of ours')\n"
        "    raise CarError(f'{car}{fast} ' 'stops here')\n"
    )
    assert [(s.line, s.text) for s in sentences(source, "source.py")] == [
        (5, "… goes quickly: it has no wheels"),
        (5, "… goes slowly: it has no wheels"),
        (8, "… stops here"),
    ]
