"""A translated page has the code of its original, and the links of all pages lead somewhere."""

import re
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

REPOSITORY = Path(__file__).parents[1]
PAIRS = [("README.md", "README_zh.md"), ("docs/questions.md", "docs/questions_zh.md")]
PAGES = sorted(
    str(page.relative_to(REPOSITORY)) for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]
)
FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def read(page):
    return (REPOSITORY / page).read_text(encoding="utf-8")


def code_blocks(text):
    """Language and lines of each block, without comments, empty lines and blanks at the end of a line."""
    for language, code in FENCE.findall(text):
        lines = (re.sub(r"(^|\s)#.*", "", line).rstrip() for line in code.splitlines())
        yield language, [line for line in lines if line]


def slug(heading):
    """Spell the anchor as GitHub does: letters, marks, digits, underscores and hyphens stay, blanks become hyphens."""
    shown = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
    kept = (c for c in shown if c in " -" or unicodedata.category(c).startswith(("L", "M", "Nd", "Pc")))
    return "".join(kept).replace(" ", "-")


def anchors(text):
    """All anchors of a page; a heading that comes again gets a number."""
    seen = Counter()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", FENCE.sub("", text), re.MULTILINE):
        name = slug(heading)
        yield f"{name}-{seen[name]}" if seen[name] else name
        seen[name] += 1


def relative_links(text):
    prose = re.sub(r"`[^`]*`", "", FENCE.sub("", text))
    links = (unquote(link) for link in re.findall(r"\]\(([^()\s]+)\)", prose))
    return [link for link in links if not re.match(r"[a-z]+:", link)]


def leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (REPOSITORY / page).parent / path if path else REPOSITORY / page
    return target.exists() and (not anchor or anchor in anchors(read(target)))


@pytest.mark.parametrize(("original", "translation"), PAIRS)
def test_a_translated_page_has_the_code_of_its_original(original, translation):
    blocks = list(code_blocks(read(original)))
    assert blocks
    assert list(code_blocks(read(translation))) == blocks


@pytest.mark.parametrize(("original", "translation"), PAIRS)
def test_a_page_and_its_translation_name_each_other_at_the_top(original, translation):
    for page, other in [(original, translation), (translation, original)]:
        assert f"]({Path(other).name})" in read(page).split("\n\n")[1]


@pytest.mark.parametrize("page", PAGES)
def test_relative_links_lead_to_files_and_headings(page):
    assert [link for link in relative_links(read(page)) if not leads_somewhere(page, link)] == []


def test_a_link_that_leads_nowhere_is_found():
    text = "[a](../README.md) [b\nb](#which-size) [c](#size) `[d](d)` [e](no.md) [f](costs.md#no) [g](https://x.org/#g)"
    links = relative_links(f"{text}\n```bash\n[h](h)\n```\n")
    assert [leads_somewhere("docs/questions.md", link) for link in links] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("Run folder (`--output_dir`)", "run-folder---output_dir"),
        ("Embedding — `layers/positions.py`", "embedding--layerspositionspy"),
        ("怎样用 GPU，用哪种 GPU？", "怎样用-gpu用哪种-gpu"),
    ],
)
def test_anchors_are_spelt_as_github_spells_them(heading, anchor):
    assert slug(heading) == anchor


def test_a_heading_that_comes_again_gets_a_number_and_a_comment_in_code_is_none():
    assert list(anchors("# A b\n\n```bash\n# c\n```\n\n## A b\n")) == ["a-b", "a-b-1"]
