"use strict";
// The page of a run in training is written anew now and then, and nothing on it can ask for news: it loads itself when one comes
// back to it, and after a minute without a touch, but never while a sound plays.
(() => {
  const MINUTE = 60000;
  let touched = Date.now();
  const anew = () => { if (!document.querySelector(".playing")) location.reload(); };
  for (const event of ["pointerdown", "keydown", "scroll"]) {
    addEventListener(event, () => { touched = Date.now(); }, { passive: true });
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden) anew(); });
  setInterval(() => { if (!document.hidden && Date.now() - touched > MINUTE) anew(); }, 5000);
})();
