"""Takes the README's pictures of a report: its beginning, its traversals and its explorer.     (pip install -r scripts/requirements-page.txt)

    screenshots.py PAGE.html FOLDER
"""

import pathlib
import sys

from playwright.sync_api import sync_playwright

from browsers import launch
from check_page import wait


def main():
    source, folder = map(pathlib.Path, sys.argv[1:])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright, "chromium")
        light = browser.new_page(viewport={"width": 1100, "height": 940}, color_scheme="light")
        light.goto(source.resolve().as_uri())
        light.screenshot(path=folder / "report.png")
        cut(light, "#run-1-traversals", 640, folder / "traversals.png")
        dark = browser.new_page(viewport={"width": 1100, "height": 900}, color_scheme="dark")
        dark.goto(source.resolve().as_uri())
        wait(dark, "() => document.querySelector('.explorer').dataset.fine !== undefined")
        for press in range(12):
            dark.locator(".explorer-slider input").first.press("ArrowRight")
        dark.evaluate("() => delete document.querySelector('.explorer').dataset.fine")
        dark.locator(".explorer-slider input").first.press("ArrowRight")
        wait(dark, "() => document.querySelector('.explorer').dataset.fine !== undefined")
        cut(dark, ".explorer", 950, folder / "explorer.png")
        browser.close()


def cut(page, section, most, path):
    """The beginning of a section, with a margin."""
    box = page.locator(section).bounding_box()
    top = box["y"] + page.evaluate("() => scrollY") - 16
    clip = {"x": 0, "y": top, "width": page.viewport_size["width"], "height": min(box["height"] + 32, most)}
    page.screenshot(path=path, full_page=True, clip=clip)


if __name__ == "__main__":
    main()
