// The HTTP interface as the page needs it. Knows no element of the page.

const POLL_MS = 1000;
const SUBMIT_DELAYS_MS = [500, 1500, 4000];

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

export const listModels = () => call("/v1/models");
export const getVideo = (id) => call(`/v1/videos/${id}`);
export const cancelVideo = (id) => call(`/v1/videos/${id}/cancel`, { method: "POST" });
export const deleteVideo = (id) => call(`/v1/videos/${id}`, { method: "DELETE" });
export const listVideos = (after) => call(`/v1/videos?limit=24${after ? `&after=${after}` : ""}`);
export const fileOf = (id, variant = "video") => `/v1/videos/${id}/content?variant=${variant}`;
export const isEnded = (video) => video.status === "completed" || video.status === "failed";

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

/** Calls onVideo with every new state until the video ends; events first, polling where they fail. Returns a stop. */
export function follow(id, { onVideo, onGone }) {
  let isOver = false;
  const source = new EventSource(`/v1/videos/${id}/events`);
  const stop = () => {
    isOver = true;
    source.close();
  };
  const tell = (video) => {
    if (isOver) return;
    if (isEnded(video)) stop();
    onVideo(video);
  };
  for (const name of ["progress", "completed", "failed"]) {
    source.addEventListener(name, (event) => tell(JSON.parse(event.data)));
  }
  source.addEventListener("deleted", () => {
    stop();
    onGone();
  });
  source.addEventListener("error", async () => {
    source.close();
    while (!isOver) {
      try {
        tell(await getVideo(id));
      } catch (error) {
        if (error.status === 404 && !isOver) {
          stop();
          onGone();
        }
      }
      await sleep(POLL_MS);
    }
  });
  return stop;
}

async function call(path, options = {}) {
  const reply = await reach(path, options);
  const body = await reply.json().catch(() => null);
  if (!reply.ok) throw new ApiError(reply.status, body);
  return body;
}

async function reach(path, options) {
  try {
    return await fetch(path, { cache: "no-store", ...options });
  } catch {
    throw new Unreachable();
  }
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
