"""Opens report pages in a browser: no error, no violation of their policy, every sound plays, the keyboard reaches every button, and
nothing is wider than a phone; an explorer follows its sliders. Screenshots are kept.

    check_page.py [--browser chromium|firefox] SCREENSHOTS PAGE.html [PAGE.html ...]
"""

import argparse
import pathlib
import sys
import time

from playwright.sync_api import sync_playwright

from browsers import launch

SIZES = {"desktop": (1280, 900), "phone": (360, 780)}

# Each sound in turn: a browser keeps only so many players.
SOUNDS = """async () => {
  const found = [];
  for (const sound of document.querySelectorAll("audio")) {
    const said = await new Promise(resolve => {
      sound.addEventListener("canplay", () => resolve("ready"), { once: true });
      sound.addEventListener("error", () => resolve("error " + (sound.error && sound.error.message)), { once: true });
      setTimeout(() => resolve("nothing within 10 s"), 10000);
      sound.preload = "auto";
      sound.load();
    });
    found.push([said, sound.duration]);
    sound.preload = "none";
    sound.load();
  }
  return found;
}"""

# What becomes of sounds, and how many clips are marked when one begins.
HEARD = """() => {
  globalThis.heard = [];
  const note = (type, text) => document.addEventListener(type, () => heard.push(text()), true);
  note("playing", () => "playing " + document.querySelectorAll(".clip.playing").length);
  note("ended", () => "ended");
  note("error", () => "error");
}"""

# Names of what is wider than the screen, without what scrolls by itself.
WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  ["page", ...[...document.querySelectorAll("body *")]
    .filter(e => !e.closest(".wide") && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + "." + e.className.toString())]"""


def check(browsers, path, screenshots):
    wrong = []
    for size, (width, height) in SIZES.items():
        for scheme, browser in browsers.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
            page = context.new_page()
            faults = []
            page.on("console", lambda said: faults.append(f"console: {said.text}") if said.type != "log" else None)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else faults.append(asked.url))
            page.add_init_script(
                "addEventListener('securitypolicyviolation', e => console.error('policy', e.violatedDirective, e.blockedURI))"
            )
            page.goto(path.resolve().as_uri())
            wide = page.evaluate(WIDE)
            if wide:
                faults.append(f"wider than the screen: {wide[:5]}")
            for details in page.locator("summary").all():
                details.click()
            if page.evaluate(WIDE):
                faults.append(f"unfolded, wider than the screen: {page.evaluate(WIDE)[:5]}")
            if scheme == "light":
                faults += used(page)
            wrong += [f"{size}, {scheme}: {fault}" for fault in faults]
            # The last thing: in Firefox Playwright adds a style to the page for it, which the policy refuses.
            page.screenshot(path=screenshots / f"{path.stem}-{size}-{scheme}.png", full_page=True)
            context.close()
    return wrong


def used(page):
    """What fails of sounds, names and the keyboard."""
    sounds = page.evaluate(SOUNDS)
    faults = [f"sound {index}: {said}, {length} s" for index, (said, length) in enumerate(sounds) if said != "ready" or not length]
    nameless = page.evaluate(
        "() => document.querySelectorAll('img:not([alt]), svg.plot:not(:has(title)), th:not([scope])').length +"
        " [...document.querySelectorAll('button:not([aria-label])')].filter(button => !button.textContent.trim()).length"
    )
    if nameless:
        faults.append(f"{nameless} elements without a name")
    buttons = page.locator("button.play").count()
    if buttons != len(sounds):
        faults.append(f"{buttons} buttons for {len(sounds)} sounds")
    page.evaluate("() => document.querySelector('nav a').focus()")
    reached = set()
    for _ in range(buttons + 200):
        page.keyboard.press("Tab")
        at = page.evaluate(
            "() => [...document.querySelectorAll('button.play')].indexOf(document.activeElement)"
        )
        if at >= 0:
            reached.add(at)
        if len(reached) == buttons:
            break
    if len(reached) != buttons:
        faults.append(f"the keyboard reaches {len(reached)} of {buttons} buttons")
    elif buttons:
        page.evaluate(HEARD)
        page.keyboard.press("Space")
        wait(page, "() => heard.includes('ended') || heard.includes('error')")
        heard = page.evaluate("heard")
        if heard[0] != "playing 1" or heard[-1] != "ended" or page.locator(".clip.playing").count():
            faults.append(f"a button that is pressed gives {heard}")
    print(f"  {len(sounds)} sounds, {buttons} buttons reached by the keyboard")
    return faults + explored(page)


def explored(page):
    """What fails of the explorer, if there is one: a slider must move picture and sound."""
    if not page.locator(".explorer").count():
        return []
    until = lambda wanted: wait(page, f"() => document.querySelector('.explorer').dataset.{wanted} !== undefined")
    pixels = lambda: page.evaluate("() => document.querySelector('.explorer canvas').toDataURL()")
    until("fine")
    before = pixels()
    page.evaluate("() => { const set = document.querySelector('.explorer').dataset; delete set.fine; delete set.draft; }")
    slider = page.locator(".explorer-slider input").first
    for _ in range(10):
        slider.press("ArrowRight")
    until("draft")
    until("fine")
    draft, fine = (page.evaluate(f"() => document.querySelector('.explorer').dataset.{name}") for name in ("draft", "fine"))
    sounds = page.locator('[data-part="sounds"]').text_content()
    print(f"  explorer: a move takes {draft} ms, the better sound {fine} ms. {sounds}")
    return ["a slider of the explorer changes nothing"] if pixels() == before else []


def wait(page, expression):
    """Until it is true. Playwright's own waiting needs a policy that allows `eval`."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        time.sleep(0.05)
    raise AssertionError(f"not true in a minute: {expression}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--browser", default="chromium", choices=["chromium", "firefox"])
    parser.add_argument("screenshots", type=pathlib.Path)
    parser.add_argument("pages", type=pathlib.Path, nargs="+")
    args = parser.parse_args()
    args.screenshots.mkdir(parents=True, exist_ok=True)
    failed = False
    with sync_playwright() as playwright:
        browsers = {scheme: launch(playwright, args.browser, scheme == "dark") for scheme in ("light", "dark")}
        print(args.browser, browsers["light"].version)
        for path in args.pages:
            print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")
            for fault in check(browsers, path, args.screenshots):
                failed = True
                print(f"  {fault}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
