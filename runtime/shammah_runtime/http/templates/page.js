// Rates and fixes without loading the page again. Everything works without it: the forms are plain forms.
"use strict";

const live = document.querySelector(".live");

// What went well is also seen in its place; what did not is seen only here.
function tell(text, wrong) {
  live.classList.toggle("hidden", !wrong);
  live.textContent = text;
}

document.addEventListener("submit", async (event) => {
  const form = event.target;
  const place = form.closest("article.exchange");
  if (!place || !form.matches(".rate, .fix")) return;
  event.preventDefault();
  const button = event.submitter;
  const body = new URLSearchParams(new FormData(form, button));
  tell("", false);
  let answer;
  try {
    answer = await fetch(form.action, { method: "POST", body, headers: { "x-part": "1" } });
  } catch {
    tell("The server cannot be reached; nothing was noted.", true);
    return;
  }
  if (answer.status === 401) {
    location.reload();
    return;
  }
  const made = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = made.querySelector("article.exchange");
  if (!answer.ok || !fresh) {
    tell(made.querySelector("[role=alert]")?.textContent ?? "That did not work; nothing was noted.", true);
    return;
  }
  // Not `place`: another rating may have come back meanwhile.
  const stale = document.getElementById(place.id);
  document.adoptNode(fresh);
  if (form.matches(".rate")) keep(stale, fresh);
  stale.replaceWith(fresh);
  // Where the keyboard was, it stays.
  (fresh.querySelector(`.rate [value="${CSS.escape(button.value)}"]`) ?? fresh.querySelector("summary")).focus();
  tell(fresh.querySelector(".noted").textContent, false);
});

// A rating takes nothing away: what was open stays open, and what is being written stays.
function keep(stale, fresh) {
  const both = (what) => [...stale.querySelectorAll(what)].map((one, n) => [one, fresh.querySelectorAll(what)[n]]);
  for (const [was, is] of both("details")) is.open = was.open;
  for (const [was, is] of both(".fix textarea")) is.value = was.value;
  for (const [was, is] of both(".fix [type=checkbox]")) is.checked = was.checked;
}
