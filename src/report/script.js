"use strict";
// Every .clip has a button and a sound; one sounds at a time, and a line moves over its picture.
(() => {
  let playing = null;

  function stop() {
    if (!playing) return;
    const { clip, button, sound } = playing;
    playing = null;
    sound.pause();
    sound.load(); // lets the browser give back what it decoded: it keeps only so many players
    button.setAttribute("aria-pressed", "false");
    clip.classList.remove("playing");
  }

  function follow() {
    if (!playing) return;
    const { clip, sound } = playing;
    clip.style.setProperty("--at", sound.duration ? sound.currentTime / sound.duration : 0);
    requestAnimationFrame(follow);
  }

  function start(clip, button, sound) {
    stop();
    playing = { clip, button, sound };
    button.setAttribute("aria-pressed", "true");
    clip.classList.add("playing");
    sound.play().then(follow, () => { if (playing && playing.sound === sound) stop(); });
  }

  for (const clip of document.querySelectorAll(".clip")) {
    const button = clip.querySelector("button.play"), sound = clip.querySelector("audio");
    if (!button || !sound) continue;
    const toggle = () => (playing && playing.sound === sound ? stop() : start(clip, button, sound));
    button.addEventListener("click", toggle);
    clip.querySelector(".screen").addEventListener("click", toggle);
    sound.addEventListener("ended", stop);
  }
})();
