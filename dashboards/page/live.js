// The live stream: server-sent events, read with fetch because EventSource sends no Authorization.

import { Problem, ask, backoff } from './api.js';

/** The server sends something every 15 s. A connection that is silent for longer than this is dead. */
const SILENCE = 40_000;

/** Events out of pieces of text, by the rules of HTML's text/event-stream. */
export class Parser {
  #rest = '';
  #event = { type: '', data: [] };
  #id = null;
  /** Of the last whole event: one that was cut off must come again. */
  id = null;
  retry = null;

  /** The events that a piece completes. */
  push(piece) {
    const events = [];
    const text = this.#rest + piece;
    // A line may end in CR, LF or both; a CR at the very end may have its LF in the next piece.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        const { type, data } = this.#event;
        this.id = this.#id;
        if (data.length) events.push({ type: type || 'message', data: data.join('\n') });
        this.#event = { type: '', data: [] };
        continue;
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === 'event') this.#event.type = value;
      else if (field === 'data') this.#event.data.push(value);
      else if (field === 'id' && !value.includes('\0')) this.#id = value;
      else if (field === 'retry' && /^\d+$/.test(value)) this.retry = Number(value);
    }
    return events;
  }
}

/** The order that lists have: of code points, which is that of UTF-8's bytes and not of UTF-16. */
function inOrder(one, other) {
  for (let at = 0; at < Math.min(one.length, other.length); at += 1) {
    const [a, b] = [one.charCodeAt(at), other.charCodeAt(at)];
    if (a === b) continue;
    const [isHigh, isOtherHigh] = [a, b].map((unit) => (unit & 0xf800) === 0xd800);
    return isHigh === isOtherHigh ? a - b : isHigh - isOtherHigh;
  }
  return one.length - other.length;
}

/**
 * The row of a day that an update tells of; null where only its changes are told and there is none to change.
 * An answer may have overtaken the stream: then some of the changes are made already.
 */
export function rowAfter(known, { partial = false, ...columns }) {
  if (!partial) return columns;
  if (!known) return null;
  const row = { ...known };
  for (const [name, value] of Object.entries(columns)) {
    const [, list, change] = /^(.+)_(added|removed)$/.exec(name) ?? [];
    if (change === 'added') row[list] = [...new Set([...row[list], ...value])].sort(inOrder);
    else if (change) row[list] = row[list].filter((text) => !value.includes(text));
    else row[name] = value;
  }
  return row;
}

/**
 * Follows a stream until `signal` says so, through every failure but a refused token.
 * `on.update(data)` gets each update, and returns false where it does not fit to what is known: then everything is
 * told again. `on.state(true | false)` gets whether the stream is up; `on.refused(status)` ends it.
 */
export async function follow(token, path, on, signal) {
  let lastId = null;
  let first = 1000;
  let tries = 0;
  while (!signal.aborted) {
    const attempt = new AbortController();
    const stop = () => attempt.abort();
    signal.addEventListener('abort', stop, { once: true });
    let watchdog = setTimeout(stop, SILENCE);
    let after = null;
    try {
      const headers = { Accept: 'text/event-stream', ...(lastId != null && { 'Last-Event-ID': lastId }) };
      const answer = await ask(token, path, { signal: attempt.signal, headers });
      on.state(true);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        clearTimeout(watchdog);
        watchdog = setTimeout(stop, SILENCE);
        on.state(true);
        // Not before: a proxy may answer while the server is away.
        tries = 0;
        const updates = parser.push(value).filter((event) => event.type === 'update');
        first = parser.retry ?? first;
        if (!updates.every((event) => on.update(JSON.parse(event.data)))) {
          lastId = null;
          break;
        }
        lastId = parser.id ?? lastId;
      }
    } catch (error) {
      if (error instanceof Problem) {
        after = error.after;
        if (error.status === 401 || error.status === 403) {
          on.refused(error.status);
          return;
        }
      }
    } finally {
      clearTimeout(watchdog);
      signal.removeEventListener('abort', stop);
      attempt.abort();
    }
    if (signal.aborted) return;
    on.state(false);
    await pause(Math.max(after ?? 0, backoff(tries, first)), signal);
    tries += 1;
  }
}

/** Ends early when the network is back, or when somebody looks again. */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      window.removeEventListener('online', done);
      document.removeEventListener('visibilitychange', seen);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const seen = () => document.visibilityState === 'visible' && done();
    const timer = setTimeout(done, ms);
    window.addEventListener('online', done);
    document.addEventListener('visibilitychange', seen);
    signal.addEventListener('abort', done);
  });
}
