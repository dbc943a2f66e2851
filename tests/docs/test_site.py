"""The documentation as a site: complete, no dead links, and nothing fetched from elsewhere."""

import os
import re
import subprocess
import sys

import pytest

from tests.docs.pages import PAGES, ROOT

FETCHED = re.compile(
    r"<(?:script|img|link|iframe|source)\b[^>]*\b(?:src|href)=[\"']?https?://[^>]*"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site. Strict: a dead link, or a page that is not in the menu, is an error."""
    folder = tmp_path_factory.mktemp("site")
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return folder


def test_every_page_is_built_without_a_warning(site):
    docs = ROOT / "docs"  # its results/ holds tables that are on the page of results already
    pages = [p for p in PAGES if p.is_relative_to(docs) and not p.is_relative_to(docs / "results")]
    assert len(list(site.rglob("*.html"))) == len(pages) + 1 > 10  # and a page for dead links


def test_the_reference_shows_what_docstrings_say(site):
    environment = (site / "reference" / "environment.html").read_text()
    assert "Context length T in tokens." in environment  # of a field of TieConfig
    assert "An independent environment that goes on from here" in environment  # of a method


def test_no_page_fetches_anything_from_elsewhere(site):
    assert FETCHED.search('<link rel="stylesheet" href="https://fonts.example/css">')
    for page in site.rglob("*.html"):
        assert not FETCHED.search(page.read_text()), page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?https?://", sheet.read_text()), sheet


def test_the_search_works_without_a_server(site):
    index = (site / "search" / "search_index.js").read_text()
    assert index.startswith("var __index = {")
    assert "Glossary" in index
    page = (site / "reference" / "environment.html").read_text()
    assert '<script src="../javascripts/iframe-worker.js"></script>' in page
    assert (site / "javascripts" / "iframe-worker.js").is_file()


def test_changelog_and_contributing_are_pages(site):
    assert "Keep a Changelog" in (site / "changelog.html").read_text()
    assert "What a change needs" in (site / "contributing.html").read_text()


def test_every_picture_of_the_results_is_shown_or_linked(site):
    page = (site / "results.html").read_text()
    for picture in (ROOT / "docs" / "results").rglob("*.png"):
        assert str(picture.relative_to(ROOT / "docs")) in page, picture


def test_examples_in_docstrings_stand_where_the_reference_shows_them_as_code():
    for folder in ("tiegym", "agents", "baselines"):
        for path in (ROOT / folder).glob("*.py"):
            assert not re.search(r"^ +Example:$", path.read_text(), re.MULTILINE), (
                f"{path}: name the section Examples:, mkdocstrings knows no other"
            )
