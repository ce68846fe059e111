/** The clocks of the device. */
export interface Clock {
  /** The wall clock, in ms since 1970, as the user may have set it. */
  wall(): number;
  /** Milliseconds since any moment of this run; never set back. */
  monotonic(): number;
  /**
   * Whether it goes on while the device sleeps. No clock that every platform has does; then what the server says
   * tells a night from a clock that was set forward.
   */
  countsSleep?: boolean;
}

/** The clocks that every platform has. */
export const systemClock: Clock = { wall: () => Date.now(), monotonic: () => performance.now() };

/** A time in which the wall clock was not set. Events of one batch are of one epoch. */
export interface Epoch {
  id: string;
  /** Wall clock less monotonic clock, in ms. */
  base: number;
  /** By how much the wall clock was set since this run began, in ms. */
  set: number;
  /** The server's clock less this one, in ms, once it is known. */
  offset?: number;
}

// In ms. An enum, as its words are written into what uses them.
const enum Ms {
  /** How far wall and monotonic clock may drift apart before the wall clock counts as set. */
  Jump = 2_000,
  /** Nothing that waited for longer is taken, so a longer sleep need not be told from a clock that was set. */
  Nights = 30 * 86_400_000,
}

/** The epochs of a clock. */
export function epochsOf({ wall, monotonic, countsSleep }: Clock) {
  let before = 0;
  let current: Epoch | undefined;
  const now = (): Epoch => {
    const base = wall() - monotonic();
    const step = current ? base - current.base : 0;
    if (!current || Math.abs(step) > Ms.Jump) {
      current = { id: newId(wall()), base, set: (current?.set ?? 0) + step };
    }
    return current;
  };
  return [
    /** The epoch of now. */
    now,
    /** By how much the clock was set in earlier runs, in ms, as far as they saw it. */
    (set: number): void => {
      before = set;
    },
    /** By how much the clock was set in all runs until an epoch of this one, in ms. */
    (epoch: Epoch): number => before + epoch.set,
    /**
     * What the clock of an event would read now, in ms, had it not been set since: by what the server said of
     * both clocks, `then` and now, else by what was seen.
     */
    (set: number, then: number | undefined): number => {
      // What is not known makes these NaN, which is no answer and no comparison.
      const { offset, set: setNow } = now();
      const byServer = wall() + offset! - then!;
      const moved = before + setNow - set;
      // A night looks like a clock that was set forward. Of the two it was the one by which the clock of then
      // was less wrong.
      const slept =
        !countsSleep && moved > 0 && moved < Ms.Nights && !(Math.abs(offset!) > Math.abs(offset! + moved));
      return byServer || wall() - (slept ? 0 : moved);
    },
    /** The wall clock put right by what the server said, in ms. */
    (): number => wall() + (now().offset ?? 0),
  ] as const;
}

/** A UUID of version 7, made at `ms` since 1970. */
export function newId(ms: number): string {
  const time = Math.floor(ms).toString(16).padStart(12, "0");
  // Hermes has no WebCrypto; an id has its time too.
  const random = new Uint8Array(36).map(() => Math.random() * 256);
  globalThis.crypto?.getRandomValues?.(random);
  return `${time.slice(0, 8)}-${time.slice(8)}-7xxx-8xxx-xxxxxxxxxxxx`.replace(/x/g, (_, at: number) =>
    (random[at]! % 16).toString(16),
  );
}
