// The page: a form, a stage for one video, the list of past ones. Talks to the server through client.js alone.

import {
  cancelVideo,
  deleteVideo,
  fileOf,
  follow,
  forgetKey,
  getHealth,
  getVideo,
  hasKey,
  isEnded,
  listModels,
  listVideos,
  submit,
  useKey,
  whenKeyWanted,
} from "./client.js";
import { watchDesk } from "./desk.js";

const HEALTH_MS = 4000;
const REFRESH_MS = 2500;
const STAGES = ["queued", "text", "denoise", "decode", "check", "encode", "upload"];
const STAGE_WORDS = {
  text: "Reading the prompt",
  denoise: "Drawing",
  decode: "Developing frames",
  encode: "Encoding",
  upload: "Storing",
  review: "Finished; a person must look at it first",
};
const LANGUAGES = { en: "English", zh: "中文" };

/** The video that the address named when the page was opened. */
const linked = location.hash.slice(1);

const $ = (id) => document.getElementById(id);
const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;

const state = {
  models: [],
  model: null,
  videos: new Map(), // by id
  ranks: new Map(), // by id, of those submitted here: stamps are whole seconds
  current: null,
  unfollow: () => {},
  lastListed: null,
};

// Elements ------------------------------------------------------------------------------------------------------

function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function choice(name, value, words, picture) {
  const input = el("input", { type: "radio", name, value });
  return el("label", { className: "choice" }, input, el("span", {}, picture ?? null, words));
}

function announce(words) {
  $("announcer").textContent = words;
}

// The form ------------------------------------------------------------------------------------------------------

function showModel(model) {
  state.model = model;
  showExamples(model.example_prompts);
  showAbility(model.description);
  showSizes(model.sizes);
  showQualities(model.quality);
  setRange($("frames"), model.num_frames, model.frame_stride, model.num_frames.default);
  setRange($("steps"), model.limits.num_inference_steps, 1, model.defaults.num_inference_steps);
  setNumber($("fps"), model.fps, model.fps.default);
  setNumber($("shift"), model.limits.flow_shift, model.defaults.flow_shift);
  setGuidance(model.defaults);
  setNumber($("guidance"), model.limits.guidance_scale, model.defaults.guidance_scale);
  setNumber($("guidance2"), model.limits.guidance_scale, model.defaults.guidance_scale_2);
  $("negative").value = model.defaults.negative_prompt;
  showCount();
  showLengths();
}

function showExamples(examples) {
  const lists = Object.entries(examples).map(([language, prompts]) =>
    el(
      "ul",
      { lang: language, ariaLabel: `Examples, ${LANGUAGES[language] ?? language}` },
      ...prompts.map((prompt) =>
        el("li", {}, el("button", { type: "button", className: "chip", onclick: () => takePrompt(prompt) }, prompt)),
      ),
    ),
  );
  $("examples").replaceChildren(...lists);
  $("examples").hidden = lists.length === 0;
}

function takePrompt(prompt) {
  $("prompt").value = prompt;
  showCount();
  showProblem(null);
  $("prompt").focus();
}

function showAbility(description) {
  const texts = Object.entries(description).map(([language, text]) => el("p", { lang: language }, text));
  $("ability").replaceChildren(...texts);
  $("ability").hidden = texts.length === 0;
}

function showSizes(sizes) {
  $("sizes").replaceChildren(
    ...sizes.map((size) => {
      const [width, height] = size.split("x").map(Number);
      const scale = 15 / Math.max(width, height);
      const picture = el("i", { ariaHidden: "true" });
      picture.style.setProperty("--w", `${width * scale}px`);
      picture.style.setProperty("--h", `${height * scale}px`);
      return choice("size", size, `${width} × ${height}`, picture);
    }),
  );
  check("size", sizes[0]);
}

function showQualities(qualities) {
  const names = Object.keys(qualities);
  $("quality-field").hidden = names.length === 0;
  $("qualities").replaceChildren(
    ...names.map((name) => choice("quality", name, name[0].toUpperCase() + name.slice(1))),
  );
  checkQuality();
}

function takeQuality() {
  const tier = state.model.quality[checked("quality")];
  if (!tier) return;
  $("steps").value = tier.num_inference_steps;
  setGuidance(tier);
  showLengths();
}

function setGuidance(source) {
  $("guidance").value = source.guidance_scale;
  $("guidance2").value = source.guidance_scale_2;
}

/** Marks the tier that the settings amount to, if any. */
function checkQuality() {
  const same = Object.entries(state.model?.quality ?? {}).find(
    ([, tier]) =>
      tier.num_inference_steps === Number($("steps").value) &&
      tier.guidance_scale === Number($("guidance").value) &&
      tier.guidance_scale_2 === Number($("guidance2").value),
  );
  check("quality", same?.[0] ?? null);
}

function setRange(input, limits, step, value) {
  Object.assign(input, { min: limits.min, max: limits.max, step });
  input.value = value;
}

function setNumber(input, limits, value) {
  Object.assign(input, { min: limits.min, max: limits.max });
  input.value = value;
}

function check(name, value) {
  for (const input of document.querySelectorAll(`input[name="${name}"]`)) input.checked = input.value === value;
}

const checked = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;

function showLengths() {
  const frames = Number($("frames").value);
  const seconds = frames / (Number($("fps").value) || state.model.fps.default);
  $("frames-text").value = `${frames} ${frames === 1 ? "frame" : "frames"} · ${seconds.toFixed(1)} s`;
  $("steps-text").value = $("steps").value;
  checkQuality();
}

function showCount() {
  const limit = state.model?.limits.prompt_characters;
  // Characters as the server counts them, not UTF-16 units.
  const count = [...$("prompt").value].length;
  $("prompt-count").textContent = limit && count > limit / 2 ? `${count} / ${limit}` : "";
  $("prompt-count").classList.toggle("over", Boolean(limit) && count > limit);
}

function fieldsOfForm() {
  const fields = { model: state.model.id, prompt: $("prompt").value, size: checked("size"), negative_prompt: $("negative").value };
  for (const id of ["frames", "steps", "fps", "shift", "guidance", "guidance2"]) {
    if ($(id).value !== "") fields[$(id).name] = Number($(id).value);
  }
  if (seedText() !== "") fields.seed = Number(seedText());
  return fields;
}

const seedText = () => $("seed").value.trim();

function fillForm(video) {
  const model = state.models.find((known) => known.id === video.model);
  if (model && model !== state.model) chooseModel(model);
  takePrompt(video.prompt);
  check("size", video.size);
  const values = {
    frames: video.num_frames,
    steps: video.num_inference_steps,
    seed: video.seed,
    fps: video.fps,
    shift: video.flow_shift,
    guidance: video.guidance_scale,
    guidance2: video.guidance_scale_2,
    negative: video.negative_prompt,
  };
  for (const [id, value] of Object.entries(values)) $(id).value = value;
  showLengths();
  $("composer").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
}

/** Field ids by the API's parameter names. */
const FIELD_OF = {
  prompt: "prompt",
  negative_prompt: "negative",
  seed: "seed",
  fps: "fps",
  flow_shift: "shift",
  guidance_scale: "guidance",
  guidance_scale_2: "guidance2",
};

function showProblem(error) {
  for (const id of Object.values(FIELD_OF)) $(id).removeAttribute("aria-invalid");
  $("problem").hidden = error === null;
  $("problem").textContent = error?.message ?? "";
  const field = error && $(FIELD_OF[error.param] ?? "");
  if (!field) return;
  field.setAttribute("aria-invalid", "true");
  field.closest("details")?.setAttribute("open", "");
  field.focus();
}

async function generate(event) {
  event?.preventDefault();
  if ($("generate").disabled) return;
  if ($("prompt").value.trim() === "") {
    showProblem({ message: "Say what to draw: the prompt is empty.", param: "prompt" });
    return;
  }
  if (!/^(-?\d{1,15})?$/.test(seedText())) {
    showProblem({ message: "The seed must be a whole number, or empty.", param: "seed" });
    return;
  }
  if (!state.model) {
    showProblem({ message: "No model is ready yet. It starts by itself; try again in a moment.", param: null });
    return;
  }
  showProblem(null);
  setSending(true);
  try {
    const video = await submit(fieldsOfForm());
    state.ranks.set(video.id, state.ranks.size + 1);
    keep(video);
    select(video);
  } catch (error) {
    showProblem(error);
  } finally {
    setSending(false);
  }
}

function setSending(isSending) {
  $("generate").disabled = isSending;
  $("generate").textContent = isSending ? "Sending…" : "Generate";
}

// The stage -----------------------------------------------------------------------------------------------------

function select(video) {
  state.unfollow();
  state.current = video.id;
  history.replaceState(null, "", `#${video.id}`);
  stageView = null;
  showStage(video);
  showCards();
  $("stage").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
  if (isEnded(video)) return;
  state.unfollow = follow(video.id, {
    onVideo: (next) => {
      keep({ ...next, adjusted: video.adjusted });
      if (state.current === next.id) showStage(state.videos.get(next.id));
      showCards();
    },
    onPreview: (address) => {
      if (state.current === video.id) stageView.showPreview?.(address);
    },
    onGone: () => forget(video.id),
  });
}

/** The built stage: its video's id, its kind, and how to bring it up to date; a making one shows previews. */
let stageView = null;

function showStage(video) {
  const kind = isEnded(video) ? video.status : "making";
  $("stage").setAttribute("aria-busy", String(kind === "making"));
  if (stageView?.id !== video.id || stageView.kind !== kind) {
    const build = { making: makingStage, completed: finishedStage, failed: failedStage }[kind];
    const isChange = stageView?.id === video.id;
    const { elements, update, showPreview } = build(video);
    $("stage").replaceChildren(...elements);
    $("stage").style.setProperty("--shape", `${video.width} / ${video.height}`);
    stageView = { id: video.id, kind, update, showPreview };
    if (isChange || kind === "making") announce(announcementOf(video));
  }
  stageView.update(video);
}

function announcementOf(video) {
  switch (video.status) {
    case "completed":
      return "The video is ready and plays.";
    case "failed":
      return `The video failed: ${video.error?.message ?? ""}`;
    default:
      return "The video is being made.";
  }
}

function emptyStage() {
  state.unfollow();
  state.current = null;
  stageView = null;
  history.replaceState(null, "", location.pathname);
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  picture.setAttribute("viewBox", "0 0 56 40");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "M4 2h48a3 3 0 0 1 3 3v30a3 3 0 0 1-3 3H4a3 3 0 0 1-3-3V5a3 3 0 0 1 3-3zM23 12v16l13-8z");
  path.setAttribute("fill", "none");
  path.setAttribute("stroke", "currentColor");
  path.setAttribute("stroke-width", "2");
  path.setAttribute("stroke-linejoin", "round");
  picture.append(path);
  $("stage").replaceChildren(el("div", { className: "screen empty" }, el("div", {}, picture, "Your video will play here.")));
  showCards();
}

function makingStage(video) {
  const percent = el("span", { className: "percent" });
  const step = el("span", { className: "step" });
  const bar = el("progress", { max: 100, value: 0, ariaLabel: "Progress" });
  const cancel = el("button", { type: "button", className: "quiet", onclick: () => act(cancelVideo, video) }, "Cancel");
  const screen = el("div", { className: "screen busy" }, el("div", { className: "making" }, percent, step));
  const preview = el("img", { className: "preview", alt: "What the video is becoming" });
  return {
    elements: [
      screen,
      bar,
      el("div", { className: "caption" }, words(video), facts(video), adjusted(video), el("div", { className: "actions" }, cancel)),
    ],
    update: (next) => {
      const isWaiting = next.status === "queued";
      percent.textContent = isWaiting ? placeInLine(next) : `${next.progress}%`;
      percent.classList.toggle("words", isWaiting);
      step.textContent = isWaiting ? timeLeft(next) : stepWords(next);
      bar.value = next.progress;
    },
    showPreview: (address) => {
      preview.src = address;
      if (!preview.isConnected) screen.prepend(preview);
    },
  };
}

function placeInLine(video) {
  if (video.review?.state === "pending") return "A reviewer looks at it first";
  switch (video.queue_position) {
    case null:
      return "Waiting";
    case 0:
      return "Next in line";
    default:
      return `${video.queue_position} ahead in line`;
  }
}

function timeLeft(video) {
  if (video.review?.state === "pending") return "Held for review";
  return video.eta_seconds === null ? "Waiting for a worker" : `about ${duration(video.eta_seconds)} to go`;
}

function stepWords(video) {
  const stage = STAGE_WORDS[video.stage] ?? "Starting";
  const isDrawing = video.stage === "denoise" && video.num_steps > 0;
  const where = isDrawing ? `, step ${Math.min(video.step + 1, video.num_steps)} of ${video.num_steps}` : "";
  const again = video.attempt > 1 ? ` · attempt ${video.attempt}` : "";
  return `${stage}${where}${again}`;
}

function finishedStage(video) {
  const player = el("video", {
    loop: true,
    muted: true,
    autoplay: !isCalm,
    controls: true,
    playsInline: true,
    ariaLabel: `Video: ${video.prompt}`,
  });
  playFile(player, video, () => showProblem({ message: "The file can't be played or is no longer there.", param: null }));
  const download = el("a", { className: "button primary", href: fileOf(video), download: `${video.id}.mp4` }, "Download");
  download.addEventListener("click", (event) => hasKey() && saveFile(event, video).catch(showProblem));
  const reuse = el("button", { type: "button", className: "quiet", onclick: () => fillForm(video) }, "Use these settings");
  return {
    elements: [
      el("div", { className: "screen" }, player),
      el(
        "div",
        { className: "caption" },
        words(video),
        facts(video),
        adjusted(video),
        times(video),
        el("div", { className: "actions" }, download, reuse, deleteButton(video)),
      ),
    ],
    update: () => {},
  };
}

/** Signed links run out: after a failure a new one is asked for, once. */
function playFile(player, video, onFailure) {
  const again = async () => {
    const fresh = hasKey() ? await getVideo(video.id).catch(() => null) : null;
    if (fresh?.status !== "completed") {
      onFailure();
      return;
    }
    player.addEventListener("error", onFailure, { once: true });
    player.src = fileOf(fresh);
  };
  player.addEventListener("error", again, { once: true });
  player.src = fileOf(video);
}

async function saveFile(event, video) {
  event.preventDefault();
  const fresh = await getVideo(video.id);
  el("a", { href: fileOf(fresh), download: `${video.id}.mp4` }).click();
}

function failedStage(video) {
  const isCancelled = video.error?.code === "cancelled";
  const again = el("button", { type: "button", className: "quiet", onclick: () => fillForm(video) }, "Use these settings");
  return {
    elements: [
      el("div", { className: "screen empty" }, el("div", {}, isCancelled ? "Cancelled" : "No video came of this.")),
      el(
        "div",
        { className: "caption" },
        isCancelled ? null : el("p", { className: "problem" }, video.error?.message ?? "The reason is not known."),
        words(video),
        facts(video),
        el("div", { className: "actions" }, again, deleteButton(video)),
      ),
    ],
    update: () => {},
  };
}

const words = (video) => el("p", { className: "words" }, video.prompt);

function facts(video) {
  const entries = {
    Size: `${video.width} × ${video.height}`,
    Length: `${video.num_frames} frames · ${(video.num_frames / video.fps).toFixed(1)} s`,
    Steps: video.num_inference_steps,
    Seed: video.seed,
  };
  return el(
    "dl",
    { className: "facts" },
    ...Object.entries(entries).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))),
  );
}

function adjusted(video) {
  const changes = Object.entries(video.adjusted ?? {}).map(
    ([name, { requested, used }]) => `${name.replaceAll("_", " ")} ${requested} → ${used}`,
  );
  return changes.length === 0 ? null : el("p", { className: "note" }, `Adjusted to what the model makes: ${changes.join(", ")}`);
}

function times(video) {
  if (video.cached) return el("p", { className: "note" }, "The same request was made before: this is its file.");
  const stages = STAGES.filter((name) => video.stage_durations[name] > 0);
  if (stages.length === 0) return null;
  const total = video.stage_durations.total ?? stages.reduce((sum, name) => sum + video.stage_durations[name], 0);
  const parts = stages.map((name) => {
    const part = el("i", { className: name });
    part.style.setProperty("--share", video.stage_durations[name]);
    return part;
  });
  const legend = stages.map((name) =>
    el("li", {}, el("i", { className: name, ariaHidden: "true" }), `${name} ${duration(video.stage_durations[name])}`),
  );
  return el(
    "div",
    { className: "times" },
    el("span", {}, `Made in ${duration(total)}`),
    el("div", { className: "bar", ariaHidden: "true" }, ...parts),
    el("ul", {}, ...legend),
  );
}

function duration(seconds) {
  if (seconds < 0.01) return "under 0.01 s";
  if (seconds < 10) return `${seconds.toFixed(seconds < 1 ? 2 : 1)} s`;
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** Asks once more before it deletes. */
function deleteButton(video) {
  const button = el("button", { type: "button", className: "quiet danger" }, "Delete");
  button.addEventListener("click", () => {
    if (button.dataset.isSure) {
      act(deleteVideo, video);
      return;
    }
    button.dataset.isSure = "yes";
    button.textContent = "Delete for good?";
    button.addEventListener("blur", () => {
      delete button.dataset.isSure;
      button.textContent = "Delete";
    }, { once: true });
  });
  return button;
}

async function act(action, video) {
  try {
    const answer = await action(video.id);
    if (answer.deleted) forget(video.id);
    else keep(answer);
    showProblem(null);
  } catch (error) {
    if (error.status === 404) forget(video.id);
    // It ended in the meantime: its new state is on its way.
    else if (error.status !== 409) showProblem(error);
  }
}

// Past videos ---------------------------------------------------------------------------------------------------

function keep(video) {
  state.videos.set(video.id, video);
}

function forget(id) {
  state.videos.delete(id);
  if (state.current === id) emptyStage();
  else showCards();
}

/** Elements by video id and status, so that a playing card is not built anew. */
const built = new Map();

function showCards() {
  const rank = (video) => state.ranks.get(video.id) ?? 0;
  const videos = [...state.videos.values()].sort((a, b) => b.created_at - a.created_at || rank(b) - rank(a));
  const items = videos.map((video) => {
    const key = `${video.id} ${video.status}`;
    if (!built.has(key)) built.set(key, card(video));
    const item = built.get(key);
    item.update(state.videos.get(video.id));
    return item.element;
  });
  const isSame = items.length === $("cards").children.length && items.every((item, i) => item === $("cards").children[i]);
  if (!isSame) $("cards").replaceChildren(...items);
  $("nothing").hidden = items.length > 0;
}

function card(video) {
  const still = el("div", { className: `still ${video.status}` });
  const when = el("span", { className: "when" });
  const open = el("button", { type: "button", className: "card", onclick: () => select(state.videos.get(video.id)) });
  open.append(still, el("span", { className: "words" }, video.prompt), when);
  if (video.status === "completed") playOnHover(open, still, video);
  return {
    element: el("li", {}, open),
    update: (next) => {
      open.setAttribute("aria-current", String(state.current === next.id));
      when.textContent = whenWords(next);
      if (next.status !== "completed") still.textContent = stillWords(next);
    },
  };
}

function playOnHover(open, still, video) {
  const player = el("video", { loop: true, muted: true, playsInline: true, preload: "none", tabIndex: -1, ariaHidden: "true" });
  player.poster = fileOf(video, "thumbnail");
  playFile(player, video, () => {}); // The picture stays.
  still.append(player);
  if (isCalm) return;
  const play = () => player.play().catch(() => {}); // Refused by the browser's policy: the picture stays.
  for (const name of ["pointerenter", "focus"]) open.addEventListener(name, play);
  for (const name of ["pointerleave", "blur"]) open.addEventListener(name, () => player.pause());
}

function stillWords(video) {
  switch (video.status) {
    case "queued":
      return "Waiting";
    case "in_progress":
      return `${video.progress}%`;
    default:
      return video.error?.code === "cancelled" ? "Cancelled" : "Failed";
  }
}

function whenWords(video) {
  const at = new Date(video.created_at * 1000);
  const isToday = at.toDateString() === new Date().toDateString();
  const day = isToday ? "" : `${at.toLocaleDateString([], { month: "short", day: "numeric" })}, `;
  return `${day}${at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })} · ${video.width}×${video.height}`;
}

async function loadPage(after) {
  const page = await listVideos(after);
  page.data.forEach(keep);
  if (after || state.lastListed === null) {
    state.lastListed = page.last_id;
    $("older").hidden = !page.has_more;
  }
  showCards();
}

/** Videos other than the one on stage change too. */
async function refresh() {
  const others = [...state.videos.values()].filter((video) => video.id !== state.current && !isEnded(video));
  for (const video of document.hidden ? [] : others.slice(0, 10)) {
    try {
      keep(await getVideo(video.id));
    } catch (error) {
      if (error.status === 404) forget(video.id);
    }
  }
  if (others.length > 0) showCards();
  setTimeout(refresh, REFRESH_MS);
}

// The key -------------------------------------------------------------------------------------------------------

function askForKey(error) {
  if (isAskingForKey()) return;
  state.videos.clear();
  built.clear();
  state.lastListed = null;
  emptyStage();
  $("desk").hidden = true;
  showKeyForm(true);
  showKeyProblem(error.code === "missing_api_key" ? null : error);
  $("key").focus();
}

const isAskingForKey = () => !$("key-form").hidden;

function showKeyForm(isShown) {
  $("key-form").hidden = !isShown;
  for (const part of document.querySelectorAll(".bench, .history")) part.hidden = isShown;
  $("forget-key").hidden = !hasKey();
}

function showKeyProblem(error) {
  $("key-problem").hidden = error === null;
  $("key-problem").textContent = error?.message ?? "";
}

async function takeKey(event) {
  event.preventDefault();
  // A header holds no other characters; the server says what is wrong with these.
  useKey($("key").value.replace(/[^\x21-\x7e]/g, "") || "ws_");
  try {
    await loadModels();
  } catch (error) {
    forgetKey();
    showKeyProblem(error);
    return;
  }
  $("key").value = "";
  showKeyForm(false);
  emptyOrLinked();
}

// Start ---------------------------------------------------------------------------------------------------------

async function watchHealth() {
  if (!document.hidden) {
    try {
      const health = await getHealth();
      if (!state.model && !isAskingForKey()) await loadModels();
      showHealth(health);
    } catch (error) {
      if (error.status !== 401) setHealth("down", "The server does not answer");
    }
  }
  setTimeout(watchHealth, state.model ? HEALTH_MS : 1000);
}

function showHealth(health) {
  if (health.status === "ok") {
    const device = state.model?.measured?.device;
    setHealth("ok", `Ready · ${health.models.join(", ")}${device ? ` · ${device}` : ""}`);
  } else {
    setHealth("starting", health.reasons[0] ?? "Starting…");
  }
}

function setHealth(name, text) {
  $("health").dataset.state = name;
  if ($("health-text").textContent !== text) $("health-text").textContent = text;
}

async function loadModels() {
  state.models = (await listModels()).data;
  if (state.models.length === 0) return;
  $("model").replaceChildren(...state.models.map((model) => el("option", { value: model.id }, model.id)));
  $("model-field").hidden = state.models.length < 2;
  chooseModel(state.models[0]);
}

function chooseModel(model) {
  $("model").value = model.id;
  showModel(model);
}

async function start() {
  if (/Mac|iPhone|iPad/.test(navigator.platform)) $("modifier").textContent = "⌘";
  $("composer").addEventListener("submit", generate);
  $("composer").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) generate(event);
  });
  $("prompt").addEventListener("input", showCount);
  for (const id of ["frames", "steps", "fps", "guidance", "guidance2"]) $(id).addEventListener("input", () => state.model && showLengths());
  $("qualities").addEventListener("change", takeQuality);
  $("model").addEventListener("change", () => chooseModel(state.models.find((model) => model.id === $("model").value)));
  $("roll").addEventListener("click", () => ($("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1));
  $("older").addEventListener("click", () => loadPage(state.lastListed).catch(showProblem));
  $("key-form").addEventListener("submit", takeKey);
  $("forget-key").addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
  $("forget-key").hidden = !hasKey();
  whenKeyWanted(askForKey);
  emptyOrLinked();
  watchHealth();
  refresh();
  watchDesk();
}

/** Opens the video that the address names, if it is there. */
async function emptyOrLinked() {
  emptyStage();
  await loadPage(null).catch((error) => error.status === 401 || showProblem(error));
  if (!/^video_[0-9a-f]+$/.test(linked)) return;
  const video = state.videos.get(linked) ?? (await getVideo(linked).catch(() => null));
  if (!video) return;
  keep(video);
  select(video);
}

start();
