// The review desk: what is held, for those who may decide about it. Talks to the server through client.js alone.

import { decideReview, listReviews, reviewFile } from "./client.js";

const LOOK_MS = 5000;
const STAGE_WORDS = { prompt: "Prompt", frames: "Finished video" };

const $ = (id) => document.getElementById(id);
const shown = new Map(); // element by review id

/** Shows the desk as long as the server lets this caller see it. */
export async function watchDesk() {
  if (!document.hidden && $("key-form").hidden) await look();
  setTimeout(watchDesk, LOOK_MS);
}

async function look() {
  try {
    const page = await listReviews();
    show(page.data, page.has_more);
  } catch (error) {
    // Who may not review sees no desk; an outage leaves it as it is.
    if (error.status === 401 || error.status === 403) $("desk").hidden = true;
  }
}

function show(reviews, hasMore) {
  $("desk").hidden = reviews.length === 0;
  $("desk-more").hidden = !hasMore;
  const ids = new Set(reviews.map((review) => review.id));
  for (const [id, element] of shown) if (!ids.has(id)) remove(id, element);
  for (const review of reviews) {
    if (shown.has(review.id)) continue;
    const element = entry(review);
    shown.set(review.id, element);
    $("desk-list").append(element);
  }
}

function remove(id, element) {
  shown.delete(id);
  const video = element.querySelector("video");
  if (video?.src.startsWith("blob:")) URL.revokeObjectURL(video.src);
  element.remove();
}

function entry(review) {
  const item = document.createElement("li");
  item.className = "review";
  const why = document.createElement("p");
  why.className = "why";
  const score = review.score === null ? "" : `, ${review.score.toFixed(2)}`;
  why.textContent = `${STAGE_WORDS[review.stage] ?? review.stage} · ${review.category}${score} · ${review.tenant}`;
  const prompt = document.createElement("p");
  prompt.className = "asked";
  prompt.textContent = review.prompt ?? "";
  item.append(why, prompt);
  if (review.files.includes("video")) item.append(lookButton(review));
  item.append(decision(review));
  return item;
}

/** A click loads it: what is held need not be seen by everybody who passes. */
function lookButton(review) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet";
  button.textContent = "Look at it";
  button.addEventListener("click", async () => {
    const video = document.createElement("video");
    Object.assign(video, { controls: true, loop: true, muted: true });
    try {
      video.src = await reviewFile(review.id);
      button.replaceWith(video);
    } catch (error) {
      button.textContent = error.message;
    }
  });
  return button;
}

function decision(review) {
  const form = document.createElement("form");
  form.className = "decision";
  const reason = document.createElement("input");
  Object.assign(reason, { type: "text", maxLength: 500, placeholder: "Reason; needed to reject", ariaLabel: "Reason" });
  const said = document.createElement("p");
  said.className = "problem";
  said.setAttribute("role", "alert");
  said.hidden = true;
  form.append(reason, button("Approve", "approve"), button("Reject", "reject"), said);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const decided = await decideReview(review.id, event.submitter.value, reason.value.trim());
      if (decided.state === "pending") throw new Error("Approved. Somebody else must approve it too.");
      await look();
    } catch (error) {
      said.hidden = false;
      said.textContent = error.message;
    }
  });
  return form;
}

function button(words, value) {
  const element = document.createElement("button");
  Object.assign(element, { type: "submit", className: "quiet", textContent: words, value });
  return element;
}
