"""The browsers that pages are tried in, Debian's own: `chromium`, and `firefox`, which Playwright drives by WebDriver BiDi."""

import atexit
import functools
import os
import pathlib
import subprocess
import tempfile
import time

CHROMIUM = "/usr/bin/chromium"
FIREFOX = "/usr/bin/firefox-esr"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update "
    "--disable-sync"
).split()


@functools.cache
def unheard():
    """Variables that name a server for sound which nobody hears: without any device Firefox plays nothing at all."""
    folder = tempfile.TemporaryDirectory(prefix="sound-")
    socket = pathlib.Path(folder.name) / "socket"
    modules = [f"module-native-protocol-unix auth-anonymous=1 socket={socket}", "module-null-sink"]
    server = subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", *(f"--load={one}" for one in modules)],
        env={**os.environ, "HOME": folder.name, "XDG_RUNTIME_DIR": folder.name}, stderr=subprocess.DEVNULL,
    )
    atexit.register(lambda: (server.terminate(), server.wait(), folder.cleanup()))
    for _ in range(200):
        if socket.exists():
            return {"PULSE_SERVER": f"unix:{socket}"}
        time.sleep(0.05)
    raise AssertionError("pulseaudio does not answer within 10 s")


def launch(playwright, name, dark=False, downloads=None):
    """A browser that shows nothing. Firefox is dark or light as a whole, Chromium also context by context."""
    if name == "firefox":
        scheme = {"layout.css.prefers-color-scheme.content-override": 0 if dark else 1}
        return playwright.firefox.launch(
            channel="moz-firefox", executable_path=FIREFOX, firefox_user_prefs=scheme, downloads_path=downloads,
            env={**os.environ, **unheard()},
        )
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
