#!/usr/bin/env python3
"""Tries the explorer of a page in a browser that shows nothing.

    check_explorer.py FOLDER [--browser chromium|firefox] [--shots DIR] [--synth PATH]      (pip install playwright)

FOLDER is what `cargo test --test it explorer` leaves in target/tmp/explorer: a fragment and the command line's numbers for the same
weights. Fails unless the page, under a policy that allows nothing but its own texts, computes these numbers, plays no sound unasked,
follows its sliders, and answers each bad file with a sentence. --shots keeps screenshots, --synth runs the command lines that the
page gives.
"""

import argparse
import base64
import hashlib
import json
import math
import os
import shlex
import struct
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

from playwright.sync_api import sync_playwright

from browsers import launch

MOVE_MS = 150  # from a slider to one second of sound; printed, and no reason to fail on a busy machine


def assemble(fragment, worker=True):
    """A page of one fragment, as strict as the report."""
    digest = lambda text: f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
    policy = f"default-src 'none'; script-src {digest(fragment['script'])}; style-src {digest(fragment['style'])}; " \
        "img-src data: blob:; media-src data: blob:; connect-src 'none'" + ("; worker-src blob:" if worker else "")
    data = "".join(
        f'<script type="application/json" id="{name}">{json.dumps(value).replace("<", chr(92) + "u003c")}</script>'
        for name, value in fragment["data"]
    )
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f'<title>Explorer</title><style>{fragment["style"]}</style></head><body>{fragment["html"]}{data}'
        f'<script>{fragment["script"]}</script></body></html>'
    )


def sound(path, seconds, rate=16000, level=0.3):
    """A vowel-like buzz."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(rate)
        value = lambda n: level * sum(math.sin(2 * math.pi * 150 * k * n / rate) / k for k in range(1, 12))
        file.writeframes(b"".join(struct.pack("<h", int(32767 * max(-1, min(1, value(n))))) for n in range(int(seconds * rate))))


class Page:
    def __init__(self, browser, html, width=1280, dark=False):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        self.page = self.context.new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.page.on("request", lambda request: request.url.split(":")[0] in ("http", "https") and self.errors.append(request.url))
        # No page makes a context for sound unless it was asked to.
        self.page.add_init_script("""globalThis.contexts = 0;
            globalThis.AudioContext = class extends AudioContext { constructor(...a) { super(...a); contexts++; } };""")
        self.page.goto(html.as_uri())
        self.settle()

    def part(self, name):
        return self.page.locator(f'[data-part="{name}"]')

    def until(self, expression, argument=None):
        """Waits for it to be true; Playwright's own waiting needs a policy that allows `eval`."""
        for _ in range(1200):
            if self.page.evaluate(expression, argument):
                return
            time.sleep(0.05)
        raise AssertionError(f"in a minute {expression} {argument or ''} has not come true; status: {self.part('status').text_content()}")

    def settle(self):
        """Until the good sound is there."""
        self.until("document.querySelector('.explorer').dataset.fine !== undefined")

    def fresh(self):
        for name in ("fine", "draft"):
            self.page.evaluate(f"delete document.querySelector('.explorer').dataset.{name}")

    def says(self, text):
        self.until("text => document.querySelector('[data-part=status]').textContent.includes(text)", text)

    def close(self, shot=None):
        """With a screenshot, if asked for. In Firefox Playwright adds a style to the page for it, which the policy refuses."""
        assert not self.errors, self.errors
        if shot:
            self.page.screenshot(path=shot, full_page=True)
        self.context.close()


def numbers(page, folder):
    """The comparison of explorer_numbers.js."""
    script = (Path(__file__).parent / "explorer_numbers.js").read_text()
    reference = json.loads((folder / "reference.json").read_text())
    # Debugging tools may evaluate where a page may not; the functions are the page's own.
    found = page.page.evaluate(
        "async reference => { const data = JSON.parse(document.getElementById('explorer-data').textContent);"
        f"{script}; explorerForms(data); const {{ checks, notes }} = await explorerNumbers(data, reference); return {{ checks, notes }}; }}",
        reference,
    )
    print("\n".join(found["notes"]))
    for check in found["checks"]:
        print(f"{check['what']}: {check['found']:.2e} (at most {check['most']:g})")
        assert check["found"] <= check["most"], check


def moves(page):
    """Sliders by keyboard, reset, random, morph, commands."""
    view = page.page
    assert view.evaluate("document.querySelectorAll('.explorer b, .explorer script').length") == 0, "a name became markup"
    assert view.evaluate("contexts") == 0, "a sound context before anything was asked"
    slider = view.locator(".explorer-slider input").first
    command = lambda: page.part("command").text_content()
    place = lambda: [slider.bounding_box()[side] for side in ("x", "width")]
    rail = place()
    assert command().startswith("synth reconstruct --vae ") and " --inverter " in command(), command()
    print(f"{page.part('name').text_content()}, {page.part('sounds').text_content()}")
    pressed(page, 8)
    assert abs(float(slider.input_value()) - 0.8) < 1e-9 and slider.get_attribute("aria-valuetext").startswith("+0.8 standard deviations")
    assert place() == rail, "a slider that is moved by its value slips from under the pointer"
    latent = slider.get_attribute("id").rsplit("-", 1)[1]
    assert f" --add {latent}=0.8 " in command() and command().startswith("synth edit "), command()
    assert view.evaluate("contexts") == 1
    page.part("pinA").click()
    slider.dispatch_event("dblclick")  # a Firefox that is driven makes two clicks of it
    page.until("id => document.getElementById(id).value === '0'", f"explorer-latent-{latent}")
    assert command().startswith("synth reconstruct "), command()
    page.fresh()
    page.part("random").click()
    page.settle()
    assert command().startswith("synth decode ") and "--peak 0.9" in command(), command()
    page.part("pinB").click()
    page.fresh()
    page.part("morph").focus()
    for _ in range(25):
        page.part("morph").press("ArrowRight")
    page.settle()
    assert "50 % of the way" in page.part("name").text_content()
    assert not any(view.evaluate("Array.from(document.querySelectorAll('.explorer canvas'), c => c.width < 20)"))
    page.part("play").click()
    page.part("copy").click()
    page.until("document.querySelector('[data-part=status]').textContent !== ''")


def pressed(page, times):
    """Presses the first slider so often, and says how long the drafts and the sounds at rest took."""
    took = lambda pass_: int(page.page.evaluate(f"document.querySelector('.explorer').dataset.{pass_}"))
    drafts, rests = [], []
    for _ in range(times):
        page.fresh()
        page.page.locator(".explorer-slider input").first.press("ArrowRight")
        page.until("document.querySelector('.explorer').dataset.draft !== undefined")
        drafts.append(took("draft"))
        page.settle()
        rests.append(took("fine"))
    about = lambda times: f"{sorted(times)[len(times) // 2]} ms (worst {max(times)})"
    busy = f"{os.getloadavg()[0]:.1f} busy on {os.cpu_count()} cores"
    print(f"  a draft takes {about(drafts)}, the sound at rest {about(rests)}; {busy}; wanted: a draft of 1 s in {MOVE_MS} ms")


def timed(page, folder):
    """The same for recordings of one and of two seconds, which is all of a longer one that a move is heard of."""
    for seconds in (1, 2):
        sound(folder / f"{seconds}.wav", seconds)
        page.fresh()
        page.part("file").set_input_files(folder / f"{seconds}.wav")
        page.until("name => document.querySelector('[data-part=name]').textContent.startsWith(name)", f"{seconds}.wav")
        page.settle()
        print(page.part("name").text_content())
        pressed(page, 5)


def recordings(page, folder):
    """Files of the listener's own, good and bad: each has a sentence."""
    bad = {
        "empty.wav": (b"", "empty.wav is empty"),
        "text.wav": (b"this is no sound" * 100, "text.wav is no sound that this browser can read"),
    }
    for name, (content, sentence) in bad.items():
        (folder / name).write_bytes(content)
        page.part("file").set_input_files(folder / name)
        page.says(sentence)
    sound(folder / "silent.wav", 1, level=0)
    page.part("file").set_input_files(folder / "silent.wav")
    page.says("silent.wav is silent")
    sound(folder / "short.wav", 0.01)
    page.part("file").set_input_files(folder / "short.wav")
    page.says("short.wav is too short")
    sound(folder / "long's.wav", 31, rate=8000)
    page.fresh()
    page.part("file").set_input_files(folder / "long's.wav")
    page.says("longer than 30 s")
    assert "'long'\\''s.wav'" in page.part("command").text_content()
    sound(folder / "good.wav", 1.5, rate=44100)
    page.fresh()
    page.part("file").set_input_files(folder / "good.wav")
    page.until("document.querySelector('[data-part=name]').textContent.startsWith('good.wav')")
    page.settle()


def left_out(browser, html):
    """A page whose inverter had no room says so, and its command lines do without."""
    page = Page(browser, html)
    assert "the weights of <i>large</i> are too many" in page.part("sounds").text_content(), page.part("sounds").text_content()
    assert "--inverter" not in page.part("command").text_content(), page.part("command").text_content()
    page.close()


def aged(browser, html):
    """A browser that cannot unpack weights says so."""
    context = browser.new_context()
    view = context.new_page()
    view.add_init_script("delete globalThis.DecompressionStream")
    view.goto(html.as_uri())
    for _ in range(200):
        if "too old to unpack" in view.locator('[data-part="status"]').text_content():
            return context.close()
        time.sleep(0.05)
    raise AssertionError(view.locator('[data-part="status"]').text_content())


def saved(page, part, name, to):
    """Keeps what a click saves as `name`. Of Firefox's downloads Playwright hears nothing: they are found where they end."""
    if page.page.context.browser.browser_type.name == "firefox":
        found = to.parent / "downloads" / name
        page.part(part).click()
        for _ in range(600):
            if found.exists():
                return found.rename(to)
            time.sleep(0.05)
        raise AssertionError(f"{name} has not been saved in half a minute")
    with page.page.expect_download() as download:
        page.part(part).click()
    assert download.value.suggested_filename == name, download.value.suggested_filename
    download.value.save_as(to)


def commands(page, synth, folder):
    """What is copied runs: an edit, and saved codes."""
    run = lambda line: subprocess.run([synth, *shlex.split(line)[1:]], check=True, cwd=folder, stdout=subprocess.DEVNULL)
    page.part("start").select_option("0")
    page.page.locator(".explorer-slider input").first.press("ArrowRight")
    run(page.part("command").text_content())
    page.part("random").click()
    saved(page, "codes", "explorer.npz", folder / "explorer.npz")
    run(page.part("command").text_content())
    page.settle()
    saved(page, "save", "explorer.wav", folder / "heard.wav")
    with wave.open(str(folder / "heard.wav")) as ours, wave.open(str(folder / "explorer.wav")) as theirs:
        assert ours.getnframes() == theirs.getnframes() > 0
    print("copied commands run")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox"])
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--synth", type=Path)
    args = parser.parse_args()
    fragment = json.loads((args.folder / "fragment.json").read_text())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        with_worker, without = folder / "page.html", folder / "without.html"
        with_worker.write_text(assemble(fragment))
        without.write_text(assemble(fragment, worker=False))
        browser = launch(playwright, args.browser, downloads=folder / "downloads")
        page = Page(browser, with_worker)
        numbers(page, args.folder)
        moves(page)
        timed(page, folder)
        recordings(page, folder)
        if args.synth:
            commands(page, args.synth.resolve(), folder)
        page.close()
        page = Page(browser, without)  # the same in the page itself; that a worker is refused is the one error
        page.errors = [error for error in page.errors if "worker" not in error.lower()]
        moves(page)
        page.close()
        aged(browser, without)
        small = json.loads(json.dumps(fragment))
        small["data"][0][1].update(inverter=None, left_out="<i>large</i>")
        (folder / "small.html").write_text(assemble(small))
        left_out(browser, folder / "small.html")
        if args.shots:
            args.shots.mkdir(parents=True, exist_ok=True)
            looks = [("wide", 1280, False), ("dark", 1280, True), ("narrow", 360, False), ("narrow-dark", 360, True)]
            for name, width, dark in looks:
                page = Page(launch(playwright, args.browser, dark), with_worker, width, dark)
                scroll = page.page.evaluate("document.documentElement.scrollWidth")
                assert scroll <= width, f"{scroll} pixels wide at {width}"
                page.page.locator(".explorer-slider input").first.focus()
                page.close(args.shots / f"{name}.png")
        browser.close()
    print("the explorer is as it should be")


if __name__ == "__main__":
    sys.exit(main())
