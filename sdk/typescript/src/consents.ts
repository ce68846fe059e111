import type { Consent } from "./types.js";

/** What may be sent of whom. It is forgotten with the process: the next start tries again. */
export function consents() {
  const app: Consent = {};
  const server: Consent = {};
  /** Children, and `CHILD speech`, that the server refused for want of consent. */
  const refused = new Set<string>();
  const no = (name: keyof Consent): boolean => app[name] === false || server[name] === false;
  const hear = (of: Consent, said: Consent): void => {
    Object.assign(of, said);
    // It may be for these too: the next event tells.
    if (said.coppa || said.audio) refused.clear();
  };
  return [
    /** Whether consent is wanting. */
    (child: string, type: string): boolean =>
      no("coppa") ||
      refused.has(child) ||
      (type === "speech" && (no("audio") || refused.has(child + type))),
    /** The server refused an event. */
    (child: string, type: string): unknown => refused.add(type === "speech" ? child + type : child),
    /** The server's word. */
    (said: Consent): void => hear(server, said),
    /** The app's word. A consent that it knows of may be newer than what the server has said. */
    (said: Consent): void => {
      hear(app, said);
      for (const name in said) server[name as keyof Consent] ||= said[name as keyof Consent]!;
    },
  ] as const;
}
