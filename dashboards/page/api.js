// Questions to the read API.

/** Why there is no answer. `status` is 0 where nobody answered; `after` is when to ask again, ms. */
export class Problem extends Error {
  constructor(status, after = null) {
    super(`HTTP ${status}`);
    this.status = status;
    this.after = after;
  }
}

/** `Retry-After` in ms, if it is given in seconds. */
const retryAfter = (answer) => {
  const seconds = Number.parseInt(answer.headers.get('Retry-After') ?? '', 10);
  return Number.isNaN(seconds) ? null : seconds * 1000;
};

/** The answer to a GET, which is good; else a `Problem`. */
export async function ask(token, path, { signal, headers } = {}) {
  let answer;
  try {
    answer = await fetch(path, { signal, headers: { ...headers, Authorization: `Bearer ${token}` } });
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Problem(0);
  }
  if (!answer.ok) throw new Problem(answer.status, retryAfter(answer));
  return answer;
}

/** The same as JSON. */
export async function get(token, path, signal) {
  const answer = await ask(token, path, { signal });
  try {
    return await answer.json();
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Problem(0);
  }
}

/** How long to wait before the next try: twice as long each time, 30 s at most, and never all at once. */
export const backoff = (tries, first = 1000) => Math.min(30_000, first * 2 ** tries) * (0.5 + Math.random() / 2);
