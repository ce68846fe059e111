/** The clocks of the device. */
export interface Clock {
  /** The wall clock, in ms since 1970, as the user may have set it. */
  wall(): number;
  /** Milliseconds since any moment of this run; never set back. */
  monotonic(): number;
}

/** The clocks that every platform has. */
export const systemClock: Clock = { wall: () => Date.now(), monotonic: () => performance.now() };

/** A time in which the wall clock was not set. Events of one batch are of one epoch. */
export interface Epoch {
  id: string;
  /** Wall clock less monotonic clock, in ms. */
  base: number;
  /** The server's clock less this one, in ms, once it is known. */
  offset?: number;
}

/** How far wall and monotonic clock may drift apart before the wall clock counts as set, in ms. */
const JUMP = 2_000;

/** The epochs of this run. */
export type Epochs = ReturnType<typeof epochsOf>;

/** The epochs of a clock. */
export function epochsOf({ wall, monotonic }: Clock) {
  const own: Record<string, Epoch> = {};
  let current: Epoch | undefined;
  const now = (): Epoch => {
    const base = wall() - monotonic();
    if (!current || Math.abs(base - current.base) > JUMP) {
      current = { id: randomHex(16), base };
      own[current.id] = current;
    }
    return current;
  };
  return {
    /** The epoch of now. */
    now,
    /** What the clock of an epoch reads now, in ms. `offsets` are those of other runs, by epoch. */
    reads: (id: string, offsets: Record<string, number>): number =>
      // Where an offset is not known the difference is NaN.
      own[id] ? monotonic() + own[id].base : wall() + (now().offset! - offsets[id]! || 0),
    /** The wall clock put right by what the server said, in ms. */
    corrected: (): number => wall() + (now().offset ?? 0),
  };
}

/** Random hexadecimal digits. */
export function randomHex(digits: number): string {
  // Hermes has no WebCrypto; an id has its time too.
  const bytes = new Uint8Array(digits / 2).map(() => Math.random() * 256);
  globalThis.crypto?.getRandomValues?.(bytes);
  return Array.from(bytes, (byte) => (byte + 256).toString(16).slice(1)).join("");
}

/** A UUID of version 7, made at `ms` since 1970. */
export function newId(ms: number): string {
  const time = Math.floor(Math.max(0, ms)).toString(16).padStart(12, "0");
  const random = randomHex(18);
  return `${time}7${random.slice(0, 3)}8${random.slice(3)}`.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}
