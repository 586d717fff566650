"""Opens report pages in Chromium: no error, no violation of their policy, every sound plays, the keyboard reaches every button, and
nothing is wider than a phone; an explorer follows its sliders. Screenshots are kept.

    check_page.py SCREENSHOTS PAGE.html [PAGE.html ...]
"""

import pathlib
import sys
import time

from playwright.sync_api import sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()
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

# Names of what is wider than the screen, without what scrolls by itself.
WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("body *")].filter(e => !e.closest(".wide") && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + "." + e.className.toString())"""


def check(browser, path, screenshots):
    wrong = []
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, offline=True)
            page = context.new_page()
            page.on("console", lambda said: wrong.append(f"{size}: console: {said.text}") if said.type != "log" else None)
            page.on("pageerror", lambda error: wrong.append(f"{size}: {error}"))
            page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:", "blob:")) else wrong.append(asked.url))
            page.add_init_script(
                "addEventListener('securitypolicyviolation', e => console.error('policy', e.violatedDirective, e.blockedURI))"
            )
            page.goto(path.resolve().as_uri())
            wide = page.evaluate(WIDE)
            if wide:
                wrong.append(f"{size}: wider than the screen: {wide[:5]}")
            for details in page.locator("summary").all():
                details.click()
            if page.evaluate(WIDE):
                wrong.append(f"{size}: unfolded, wider than the screen: {page.evaluate(WIDE)[:5]}")
            page.screenshot(path=screenshots / f"{path.stem}-{size}-{scheme}.png", full_page=True)
            if scheme == "light":
                wrong += [f"{size}: {fault}" for fault in used(page)]
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
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
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
        page.keyboard.press("Space")
        wait(page, "() => document.querySelectorAll('.clip.playing').length === 1")
        wait(page, "() => document.querySelectorAll('.clip.playing').length === 0")
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
    screenshots = pathlib.Path(sys.argv[1])
    screenshots.mkdir(parents=True, exist_ok=True)
    failed = False
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)
        for path in map(pathlib.Path, sys.argv[2:]):
            print(f"{path}, {path.stat().st_size / 1e6:.1f} MB")
            for fault in check(browser, path, screenshots):
                failed = True
                print(f"  {fault}")
        browser.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
