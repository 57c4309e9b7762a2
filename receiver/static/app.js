// What pages do beyond links and forms. Everything works without it.
"use strict";

const LIVE = new URL("../live", document.currentScript.src).pathname; // there may be a path before it
const SETTLE_MS = 800; // what changes meanwhile is shown together
const SLOW_LOOK_MS = 10_000; // not every change is an event: progress, attempts at deliveries

const SAID_MS = 4000;

const news = document.getElementById("news");
const changed = new Set();
let stream = null;
let settling = 0;
let hushing = 0;

function live() {
  return document.querySelector("[data-live]");
}

function busy() {
  // a form that somebody fills in, or a question that somebody answers, must not move away
  return live()?.querySelector("details.sure[open]") !== null;
}

function say(text, { lasting = false } = {}) {
  clearTimeout(hushing);
  news.textContent = text;
  news.classList.add("shown");
  if (!lasting) hushing = setTimeout(hush, SAID_MS);
}

function hush() {
  news.classList.remove("shown");
  news.textContent = "";
}

function look() {
  clearTimeout(settling);
  settling = 0;
  if (document.hidden || busy()) return;
  live().dispatchEvent(new Event("changed"));
  if (changed.size) {
    const { one, many } = news.dataset;
    say(changed.size === 1 ? one : many.replace("{n}", changed.size));
    changed.clear();
  }
}

function hear(event) {
  const { task } = JSON.parse(event.data);
  if (task) changed.add(task);
  settling ||= setTimeout(look, SETTLE_MS);
}

function follow() {
  if (stream || document.hidden || !live()) return;
  const task = live().dataset.live;
  stream = new EventSource(task ? `${LIVE}?task=${encodeURIComponent(task)}` : LIVE);
  stream.addEventListener("changed", hear);
  stream.addEventListener("open", hush);
  stream.addEventListener("error", () => {
    say(news.dataset.paused, { lasting: true });
    if (stream.readyState === EventSource.CLOSED) leave(); // refused: the next slow look tries again
  });
}

function leave() {
  stream?.close();
  stream = null;
}

function localTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const local = new Date(time.dateTime).toLocaleString(document.documentElement.lang);
    if (time.title !== local) time.title = local;
  }
}

function preview(details) {
  // a page that was fetched again has the <noscript>'s picture as an element
  if (!details.open || details.querySelector(":scope > img, :scope > video, :scope > audio")) return;
  const tag = { image: "img", video: "video", audio: "audio" }[details.dataset.preview];
  const media = document.createElement(tag);
  if (tag === "img") {
    media.alt = "";
    media.loading = "lazy";
    media.referrerPolicy = "no-referrer";
  } else {
    media.controls = true;
    media.preload = "metadata";
  }
  media.src = details.dataset.url;
  details.append(media);
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  const said = button.textContent;
  button.textContent = button.dataset.copied;
  setTimeout(() => (button.textContent = said), 1500);
}

function dress(root) {
  localTimes(root);
  if (navigator.clipboard) for (const each of root.querySelectorAll("[data-copy]")) each.hidden = false;
}

document.addEventListener("toggle", (event) => {
  if (event.target.matches?.("details[data-preview]")) preview(event.target);
}, true);
document.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) copy(button);
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
});
document.addEventListener("htmx:after:swap", () => dress(document));
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const open = event.target.closest?.("details.sure[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return leave();
  follow();
  if (live()) look();
});
addEventListener("pagehide", leave);
addEventListener("pageshow", follow);
setInterval(() => {
  if (!live()) return;
  follow();
  look();
}, SLOW_LOOK_MS);
dress(document);
follow();
