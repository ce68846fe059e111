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
export function transport(
  { credential, url, timeoutMs = 30_000, random = Math.random, ...options }: Options,
  serverTime: () => number,
  debug: (...words: unknown[]) => void,
) {
  let token: string | undefined;

  /** A request, once more with a new token where it is refused. Nothing where no answer came. */
  const request = async (
    path: string,
    body?: () => string,
    leaving?: boolean,
    again?: boolean,
  ): Promise<Answer | undefined> => {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), timeoutMs);
    try {
      let authorization = typeof credential === "string" ? credential : token;
      // A page that goes can wait for neither a token nor gzip: in Chromium 15 of 15 requests that are made
      // at once arrive, and of those that are compressed before none where it navigates, 7 where it is
      // closed.
      if (!authorization && !leaving) authorization = token = await (credential as () => string)();
      if (!authorization) return;
      const headers: Record<string, string> = { Authorization: "Bearer " + authorization };
      const json = body?.();
      // Where the platform can.
      const zipped =
        json &&
        !leaving &&
        globalThis.CompressionStream &&
        (await new Response(
          new Response(json).body!.pipeThrough(new CompressionStream("gzip")),
        ).arrayBuffer());
      if (json) headers["Content-Type"] = "application/json";
      if (zipped) headers["Content-Encoding"] = "gzip";
      const response = await (options.fetch ?? fetch)(url.replace(/\/+$/, "") + path, {
        method: json ? "POST" : "GET",
        headers,
        body: (zipped || json)!,
        keepalive: leaving!,
        signal: abort.signal,
        credentials: "omit",
        redirect: "error",
      });
      const { status } = response;
      const said = await response.text();
      debug(path, status);
      if (status === 401) {
        token = undefined;
        // A function may have another one; a string may have been replaced meanwhile.
        if (!again && !leaving && credential !== authorization) return await request(path, body, false, true);
      }
      const header = response.headers.get("Retry-After")!;
      // Seconds, or a date.
      const ms = +header * 1_000 || Date.parse(header) - serverTime();
      const retryAfter = ms > 0 ? Math.min(3_600_000, ms * (1 + random() / 5)) : undefined;
      return { status, body: attempt(() => JSON.parse(said)), retryAfter };
    } catch (error) {
      debug(error);
      return;
    } finally {
      clearTimeout(timer);
    }
  };

  /** Takes a new credential. */
  const renew = (newer: Credential): void => {
    credential = newer;
    token = undefined;
  };

  return [request, renew] as const;
}

/** What it gives, or nothing where it throws. */
export function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}
