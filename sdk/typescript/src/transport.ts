import type { Epochs } from "./clock.js";
import type { Credential, Options } from "./types.js";

/** What a server says. */
export interface Answer {
  status: number;
  /** Its JSON, if it is any. */
  body: any;
  /** How long it says to wait, with a random part, in ms. */
  retryAfter: number | undefined;
}

/** Requests with the app's credential. */
export function transport(options: Options, epochs: Epochs, debug: (...words: unknown[]) => void) {
  let { credential } = options;
  let token: string | undefined;

  const retryAfter = (header: string | null): number | undefined => {
    if (!header) return undefined;
    const ms = /^\d+$/.test(header) ? +header * 1_000 : Date.parse(header) - epochs.corrected();
    return ms >= 0 ? Math.min(3_600_000, ms * (1 + (options.random ?? Math.random)() / 5)) : undefined;
  };

  return {
    /** Takes a new credential. */
    renew(newer: Credential): void {
      credential = newer;
      token = undefined;
    },

    /** A request, once more with a new token where it is refused. Nothing where no answer came. */
    async request(path: string, body?: () => string, leaving?: boolean): Promise<Answer | undefined> {
      for (let first = true; ; first = false) {
        const abort = new AbortController();
        const timer = setTimeout(() => abort.abort(), options.timeoutMs ?? 30_000);
        try {
          let authorization = typeof credential === "string" ? credential : token;
          // A page that goes can wait for neither a token nor gzip: in Chromium 15 of 15 requests that are
          // made at once arrive, and of those that are compressed before none where it navigates, 7 where it
          // is closed.
          if (!authorization && !leaving) authorization = token = await (credential as () => string)();
          if (!authorization) return;
          const json = body?.();
          const zipped = json && !leaving ? await gzip(json) : undefined;
          const response = await (options.fetch ?? fetch)(options.url.replace(/\/+$/, "") + path, {
            method: json ? "POST" : "GET",
            headers: {
              Authorization: "Bearer " + authorization,
              ...(json && { "Content-Type": "application/json" }),
              ...(zipped && { "Content-Encoding": "gzip" }),
            },
            body: zipped ?? json ?? null,
            keepalive: !!leaving,
            signal: abort.signal,
            credentials: "omit",
            redirect: "error",
          });
          const { status } = response;
          const said = await response.text();
          if (status === 401) {
            token = undefined;
            // A function may have another one; a string may have been replaced meanwhile.
            if (first && !leaving && credential !== authorization) continue;
          }
          return {
            status,
            body: attempt(() => JSON.parse(said)),
            retryAfter: retryAfter(response.headers.get("Retry-After")),
          };
        } catch (error) {
          debug(error);
          return;
        } finally {
          clearTimeout(timer);
        }
      }
    },
  };
}

/** What it gives, or nothing where it throws. */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Bytes of gzip where the platform can. */
async function gzip(text: string): Promise<ArrayBuffer | undefined> {
  if (typeof CompressionStream === "undefined") return undefined;
  return new Response(new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"))).arrayBuffer();
}
