import type { Consent } from "./types.js";

/** What may be sent of whom. It is forgotten with the process: the next start tries again. */
export function consents() {
  const app: Consent = {};
  let server: Consent = {};
  /** Children, and `CHILD speech`, that the server refused for want of consent. */
  const refused = new Set<string>();
  const no = (name: keyof Consent): boolean => app[name] === false || server[name] === false;
  const heard = ({ coppa, audio }: Consent): void => {
    for (const who of refused) if (who.endsWith(" speech") ? audio : coppa) refused.delete(who);
  };
  return {
    /** Whether consent is wanting. */
    blocks: (child: string, type: string): boolean =>
      no("coppa") || refused.has(child) || (type === "speech" && (no("audio") || refused.has(child + " speech"))),
    /** The app's word. A consent that it knows of may be newer than what the server has said. */
    app(consent: Consent): void {
      Object.assign(app, consent);
      server = { ...server, ...(consent.coppa && { coppa: true }), ...(consent.audio && { audio: true }) };
      heard(consent);
    },
    /** The server's word. */
    server(consent: Consent): void {
      server = consent;
      heard(consent);
    },
    /** The server refused an event. */
    refuse: (child: string, type: string): unknown => refused.add(type === "speech" ? child + " speech" : child),
  };
}
