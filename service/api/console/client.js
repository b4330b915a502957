// The HTTP interface as the page needs it. Knows no element of the page.

const POLL_MS = 1000;
const SUBMIT_DELAYS_MS = [500, 1500, 4000];

const KEY = "wanserve.key";

export class ApiError extends Error {
  constructor(status, body) {
    super(body?.error?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = body?.error?.code ?? "unknown";
    this.param = body?.error?.param ?? null;
  }
}

export class Unreachable extends Error {
  constructor() {
    super("The server does not answer. Check that wanserve is running, then try again.");
    this.code = "unreachable";
    this.param = null;
  }
}

/** The API key that every request carries, until this tab is closed. */
export const hasKey = () => sessionStorage.getItem(KEY) !== null;
export const useKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

let onKeyWanted = () => {};

/** Calls back with the error whenever the server asks for a key, or for another one. */
export function whenKeyWanted(callback) {
  onKeyWanted = callback;
}

export const listModels = () => call("/v1/models");
export const getVideo = (id) => call(`/v1/videos/${id}`);
export const cancelVideo = (id) => call(`/v1/videos/${id}/cancel`, { method: "POST" });
export const deleteVideo = (id) => call(`/v1/videos/${id}`, { method: "DELETE" });
export const listVideos = (after) => call(`/v1/videos?limit=24${after ? `&after=${after}` : ""}`);
export const listReviews = () => call("/v1/reviews?limit=24");
export const listPanels = () => call("/status/panels");
export const getCurves = (id, seconds) => call(`/status/panels/${id}?seconds=${seconds}`);
export const isEnded = (video) => video.status === "completed" || video.status === "failed";

/** Where the page plays and saves a file from. A player sends no key: beside one it needs the signed link. */
export function fileOf(video, variant = "video") {
  const path = `/v1/videos/${video.id}/content`;
  const signed = variant === "thumbnail" ? video.output?.thumbnail_url : video.output?.url;
  if (!hasKey() || !signed) return `${path}?variant=${variant}`;
  const link = new URL(signed);
  // The gateway's own links work under whatever name this page was opened.
  return link.pathname.endsWith(path) ? path + link.search : signed;
}

/** Approve or reject. */
export function decideReview(id, decision, reason) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ reason }) };
  return call(`/v1/reviews/${id}/${decision}`, options);
}

/** Where the page plays a held video from: no link leads to one, so beside a key it is fetched whole. */
export async function reviewFile(id) {
  const path = `/v1/reviews/${id}/content`;
  if (!hasKey()) return path;
  const reply = await reach(path, {});
  if (!reply.ok) throw new ApiError(reply.status, await reply.json().catch(() => null));
  return URL.createObjectURL(await reply.blob());
}

/** The health report, whatever its status code. */
export async function getHealth() {
  const reply = await reach("/health", {});
  return reply.json();
}

/** Repeats a lost request under the same key, so that it never makes two videos. */
export async function submit(fields) {
  const options = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": newKey() },
    body: JSON.stringify(fields),
  };
  for (const delay of SUBMIT_DELAYS_MS) {
    try {
      return await call("/v1/videos", options);
    } catch (error) {
      if (!(error instanceof Unreachable)) throw error;
      await sleep(delay);
    }
  }
  return call("/v1/videos", options);
}

/** Calls onVideo with every new state until the video ends, onPreview with a picture's address; events first, polling where they fail. Returns a stop. */
export function follow(id, { onVideo, onPreview, onGone }) {
  let isOver = false;
  const connection = new AbortController();
  const stop = () => {
    isOver = true;
    connection.abort();
  };
  const tell = (video) => {
    if (isOver) return;
    if (isEnded(video)) stop();
    onVideo(video);
  };
  const endAsGone = () => {
    if (isOver) return;
    stop();
    onGone();
  };
  const poll = async () => {
    while (!isOver) {
      try {
        tell(await getVideo(id));
      } catch (error) {
        if (error.status === 404) endAsGone();
      }
      await sleep(POLL_MS);
    }
  };
  const hear = ({ event, data }) => {
    switch (event) {
      case "deleted":
        return endAsGone();
      case "preview":
        return isOver || onPreview(JSON.parse(data).image_url);
      case "progress":
      case "completed":
      case "failed":
        return tell(JSON.parse(data));
    }
  };
  readEvents(`/v1/videos/${id}/events`, connection.signal, hear).catch(() => {}).then(poll);
  return stop;
}

/** EventSource sends no key, so the stream is read by hand. Comes back when it ends, throws when it breaks. */
async function readEvents(path, signal, hear) {
  const reply = await reach(path, { signal });
  if (!reply.ok) return;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) hear(fieldsOf(block));
  }
}

/** Of one event. A comment is a field without a name. */
function fieldsOf(block) {
  const fields = block.split("\n").map((line) => line.match(/^([^:]*):? ?(.*)$/).slice(1));
  return Object.fromEntries(fields);
}

async function call(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const reply = await reach(path, options);
  const body = await reply.json().catch(() => null);
  if (reply.ok) return body;
  const error = new ApiError(reply.status, body);
  // An answer to an older key says nothing about the one entered since.
  if (reply.status === 401 && key === sessionStorage.getItem(KEY)) {
    forgetKey();
    onKeyWanted(error);
  }
  throw error;
}

async function reach(path, options) {
  const key = sessionStorage.getItem(KEY);
  const headers = key === null ? options.headers : { ...options.headers, Authorization: `Bearer ${key}` };
  try {
    return await fetch(path, { cache: "no-store", ...options, headers });
  } catch {
    throw new Unreachable();
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
