"""The pictures of the documentation: the scenes that they show work.

With CREEMSON_PICTURES=1 in the environment, they are made again: docs/images/*.png.
"""

import os
from pathlib import Path

import pytest

from tests.browser.people import Person
from tests.browser.test_page import until, visit
from tests.servers import SAMPLE, serving

pytestmark = pytest.mark.slow

IMAGES = Path(__file__).parents[2] / "docs" / "images"
MAX_BYTES = 200_000
"""Maximum size of a picture."""


@pytest.fixture
def empty_server(tmp_path):
    with serving(tmp_path / "data") as server:
        yield server


@pytest.fixture
def person(empty_server, page):
    """Somebody who has dropped the penguins, and sees no other files."""
    visit(page, empty_server)
    person = Person(page)
    person.drop(SAMPLE)
    return person


def picture(page, name, *, height, top="header"):
    """Make a picture of a part of the page, or check that there is one of a fit size.

    Args:
        page: the page, 1280 pixels wide.
        name: of the file.
        height: of the picture, in pixels.
        top: the element with which it begins.
    """
    path = IMAGES / name
    if os.environ.get("CREEMSON_PICTURES"):
        IMAGES.mkdir(exist_ok=True)
        page.mouse.move(0, 0)
        page.evaluate("scrollTo(0, 0)")
        y = page.evaluate("top => document.querySelector(top).getBoundingClientRect().top", top)
        clip = {"x": 0, "y": y, "width": 1280, "height": height}
        page.screenshot(path=path, animations="disabled", full_page=True, clip=clip)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size <= MAX_BYTES


def test_file_that_was_dropped_is_pictured(person):
    """The rows, with the distribution of each column."""
    until(person.page, "document.querySelector('#view-facts').textContent.includes('344 rows')")
    picture(person.page, "page.png", height=860)


def test_rows_that_have_a_text_are_pictured(person):
    """The tutorial's first step on the page."""
    person.type("#find", "dream")
    until(person.page, "document.querySelector('#view-facts').textContent.includes('124 rows match')")
    picture(person.page, "tutorial-find.png", height=700)


def test_average_of_each_group_is_pictured_with_its_chart(person):
    """The tutorial's last step on the page."""
    person.menu("body_mass_g")
    person.choose("[aria-label='What to compute']", "average")
    person.choose("[aria-label='For each']", "for each species")
    until(person.page, "document.querySelector('#view-facts').textContent.startsWith('3 rows')")
    person.click("#plot summary")
    until(person.page, "document.querySelectorAll('#plot svg rect').length === 3")
    picture(person.page, "tutorial-chart.png", height=1010)


def test_menu_of_a_column_is_pictured(person):
    """What can be done with a column, in the guide to the page."""
    person.menu("flipper_length_mm")
    person.page.wait_for_selector("#column-menu .bars")
    picture(person.page, "page-menu.png", height=900)


def test_options_and_problems_of_a_malformed_file_are_pictured(empty_server, page, tmp_path):
    """How a file was read, and what is wrong in it, in the guide to the page."""
    path = tmp_path / "levels.csv"
    path.write_text(
        "sensor;taken;level\n" + "a1;2024-05-01;2,5\na2;2024-05-01\na3;2024-05-02;3,1;x\na4;soon;2,9\n" * 3
    )
    visit(page, empty_server)
    Person(page).drop(path)
    page.click("#options summary")
    page.click("#view-issues summary")
    picture(page, "page-problems.png", top="#view", height=1280)
