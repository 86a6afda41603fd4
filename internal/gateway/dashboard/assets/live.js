// Shows what the server sends: texts, lines of graphs, states, and one part of the page.
"use strict";

const pause = document.getElementById("pause");
const pill = document.querySelector('[data-state-of="status"]');
let stream = null;
let paused = false;

function show(live) {
  for (const e of document.querySelectorAll("[data-text]")) {
    const text = live.text[e.dataset.text];
    if (text !== undefined && e.textContent !== text) e.textContent = text;
  }
  for (const e of document.querySelectorAll("[data-state-of]")) {
    const state = live.state[e.dataset.stateOf];
    if (state !== undefined) e.dataset.state = state;
  }
  for (const e of document.querySelectorAll("[data-path]")) {
    const line = live.path && live.path[e.dataset.path];
    if (line !== undefined) e.setAttribute("d", line);
  }
  const part = document.getElementById("part");
  if (part && live.html && !busy(part)) part.innerHTML = live.html;
}

// busy reports whether somebody works in the part: it must not change below a cursor.
function busy(part) {
  const selection = getSelection();
  return part.contains(document.activeElement) || (!selection.isCollapsed && part.contains(selection.anchorNode));
}

function open() {
  if (stream || paused || document.hidden) return;
  stream = new EventSource(document.body.dataset.stream);
  stream.onmessage = (event) => show(JSON.parse(event.data));
  stream.onerror = () => {
    pill.dataset.state = "unknown";
    pill.querySelector("[data-text]").textContent = "no connection";
  };
}

function close() {
  if (stream) stream.close();
  stream = null;
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  pause.textContent = paused ? "Resume" : "Pause";
  if (paused) close();
  else open();
});
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
addEventListener("pagehide", close);
addEventListener("pageshow", open);
open();
