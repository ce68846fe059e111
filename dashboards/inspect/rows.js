// The events that are shown: the newest 1 000, and what waits while one reads.

/** Rows on the page, at most. */
export const MOST = 1_000;

/** Newest first. */
export let rows = [];

/** What came while it was paused, newest first; the oldest of more than `MOST` are dropped. */
let held = [];
const byNumber = new Map();

export const state = { paused: false, missed: 0, dropped: 0 };

export const heldCount = () => held.length;

/** An event, of the stream's number. */
export function add(seen) {
  const row = { ...seen, name: `${stream}-${seen.number}`, fate: null };
  byNumber.set(seen.number, row);
  if (state.paused) held = trimmed([row, ...held]);
  else rows = trimmed([row, ...rows]);
}

function trimmed(list) {
  if (list.length <= MOST) return list;
  for (const row of list.slice(MOST)) {
    if (byNumber.get(row.number) === row) byNumber.delete(row.number);
    if (state.paused) state.dropped += 1;
  }
  return list.slice(0, MOST);
}

/** What became of an event. */
export function settle({ number, ...fate }) {
  const row = byNumber.get(number);
  if (row) Object.assign(row, { fate, isDrawn: false });
}

let stream = 0;

/** Another stream counts from 0 again. What is open stays so: nobody tells of it any more. */
export function begin() {
  stream += 1;
  byNumber.clear();
}

export function pause(paused) {
  state.paused = paused;
  if (!paused) {
    rows = trimmed([...held, ...rows]);
    held = [];
    state.dropped = 0;
  }
}

export function clear() {
  rows = [];
  held = [];
  byNumber.clear();
  Object.assign(state, { missed: 0, dropped: 0 });
}
