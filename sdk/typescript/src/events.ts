// Written from the declarations in events/: RIVULET_UPDATE_DOCS=1 cargo test -p rivulet-builders
import { builder, type EventOptions, type RivuletEvent } from "./event.js";

/** The types of events. */
export type EventType = "interaction" | "message" | "speech" | "session";

/** What was done. */
export type InteractionAction = "start" | "answer" | "hint" | "skip" | "view" | "complete" | "rate" | "reward";

/** Who spoke. */
export type Role = "user" | "assistant" | "system";

/** The step. */
export type SessionAction = "start" | "heartbeat" | "pause" | "resume" | "end";

/** What the session was for. */
export type SessionKind = "learning" | "play" | "story" | "quiz" | "review" | "other";

/** The kind of device that it ran on. */
export type DeviceType = "desktop" | "mobile" | "tablet" | "unknown";

/** The platform. */
export type Platform = "ios" | "android" | "web" | "other";

/** The device that events come from. */
export interface Device {
  /** The app's id of the device. At most 64 characters. */
  id?: string;
  /** The platform. */
  platform?: Platform;
  /** Version of the app. At most 32 characters. */
  appVersion?: string;
}

/** What every interaction takes. */
export interface InteractionFields {
  /** The activity. A UUID. */
  activityId?: string;
  /** School subject. At most 100 characters. */
  subject?: string;
  /** Topic. At most 100 characters. */
  topic?: string;
  /** Time to respond, in milliseconds. 0 to 3 600 000. */
  responseTimeMs?: number;
  /** Time on task, in milliseconds. 0 to 14 400 000. */
  durationMs?: number;
  /** How sure the child was. 0 to 1. */
  confidence?: number;
  /** How difficult the activity was, 1 being the easiest. 1 to 5. */
  difficulty?: number;
  /** How the child liked it, 5 being the best. 1 to 5. */
  rating?: number;
  /** Points won. 0 to 10 000. */
  xp?: number;
  /** Stars won. 0 to 10 000. */
  stars?: number;
  /** Badge won. At most 100 characters. */
  badge?: string;
}

/** What a child did with an activity. This is `action` `start`. */
export const start: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "start" });

/** What {@link answer} takes. */
export interface AnswerFields extends InteractionFields {
  /** Whether an answer was right. */
  correct: boolean;
}

/** What a child did with an activity. This is `action` `answer`. */
export const answer: (fields: AnswerFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "answer" });

/** What a child did with an activity. This is `action` `hint`. */
export const hint: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "hint" });

/** What a child did with an activity. This is `action` `skip`. */
export const skip: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "skip" });

/** What a child did with an activity. This is `action` `view`. */
export const view: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "view" });

/** What a child did with an activity. This is `action` `complete`. */
export const complete: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "complete" });

/** What {@link rate} takes. */
export interface RateFields extends InteractionFields {
  /** How the child liked it, 5 being the best. 1 to 5. */
  rating: number;
}

/** What a child did with an activity. This is `action` `rate`. */
export const rate: (fields: RateFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "rate" });

/** What a child did with an activity. This is `action` `reward`. */
export const reward: (fields?: InteractionFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("interaction", { action: "reward" });

/** What {@link message} takes. */
export interface MessageFields {
  /** The conversation. A UUID. */
  conversationId: string;
  /** Place in the conversation. At least 1. */
  sequence: number;
  /** Who spoke. */
  role: Role;
  /** Topic. At most 100 characters. */
  topic?: string;
  /** The text of the turn. It is measured (characters and words) and dropped. At most 8 192 bytes of UTF-8. */
  content?: string;
  /** The turn asks something. Default false. */
  question?: boolean;
  /** Typed or spoken freely, not chosen from a list. Default false. */
  freeForm?: boolean;
  /** The app saw a moment of insight. Default false. */
  ahaMoment?: boolean;
  /** A safety filter acted. Default false. */
  wasFiltered?: boolean;
  /** Which answer of a list was chosen. 0 to 255. */
  selectedChoice?: number;
  /** How deep the conversation has gone. 0 to 100. */
  depthLevel?: number;
  /** Tokens that the model used. 0 to 10 000 000. */
  tokensUsed?: number;
  /** Time that the assistant took, in milliseconds. 0 to 10 000 000. */
  processingTimeMs?: number;
  /** Why the filter acted. At most 100 characters. */
  filterReason?: string;
}

/** A turn of a conversation between a child and an assistant. */
export const message: (fields: MessageFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("message");

/** What {@link speech} takes. */
export interface SpeechFields {
  /** The recording session on the device. A UUID. */
  audioSessionId: string;
  /** Length of the analysed window, in milliseconds. 1 to 3 600 000. */
  windowMs: number;
  /** Words of the child. 0 to 100 000. Default 0. */
  childWords?: number;
  /** Words of adults near the child. 0 to 100 000. Default 0. */
  adultWords?: number;
  /** Vocalisations that are no words. 0 to 100 000. Default 0. */
  childVocalizations?: number;
  /** Turns between child and adult. 0 to 100 000. Default 0. */
  conversationalTurns?: number;
  /** Utterances of the child. 0 to 100 000. Default 0. */
  utterances?: number;
  /** Distinct words in the window. 0 to 100 000. Default 0. */
  uniqueWords?: number;
  /** Words not heard from the child before. 0 to 100 000. Default 0. */
  newWords?: number;
  /** Signal to noise ratio, in decibels. -100 to 200. */
  snrDb?: number;
  /** Language, as a BCP 47 tag such as `pt-BR`. At most 35 characters. */
  language?: string;
  /** Version of the model on the device. At most 64 characters. */
  modelVersion?: string;
}

/** Metrics of a window of speech, computed on the device. Sound itself is never accepted. */
export const speech: (fields: SpeechFields, options?: EventOptions) => RivuletEvent =
  /* @__PURE__ */ builder("speech");

/** What {@link session} takes. */
export interface SessionFields {
  /** The step. */
  action: SessionAction;
  /** Active time since this session's previous event, in milliseconds. 0 to 600 000. Default 0. */
  activeMs?: number;
  /** What the session was for. */
  kind?: SessionKind;
  /** The kind of device that it ran on. */
  deviceType?: DeviceType;
}

/** A step in a session's life. */
export const session: (fields: SessionFields, options: EventOptions & { sessionId: string }) => RivuletEvent =
  /* @__PURE__ */ builder("session");

/** A child's events: each method makes one and tracks it. */
export interface Builders<Tracked> {
  /** Tracks an event that a builder has made. */
  track(event: RivuletEvent): Tracked;
  /** Tracks {@link start}. */
  start(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link answer}. */
  answer(fields: AnswerFields, options?: EventOptions): Tracked;
  /** Tracks {@link hint}. */
  hint(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link skip}. */
  skip(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link view}. */
  view(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link complete}. */
  complete(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link rate}. */
  rate(fields: RateFields, options?: EventOptions): Tracked;
  /** Tracks {@link reward}. */
  reward(fields?: InteractionFields, options?: EventOptions): Tracked;
  /** Tracks {@link message}. */
  message(fields: MessageFields, options?: EventOptions): Tracked;
  /** Tracks {@link speech}. */
  speech(fields: SpeechFields, options?: EventOptions): Tracked;
}

/** What makes the methods of {@link Builders}. */
export const builders = { start, answer, hint, skip, view, complete, rate, reward, message, speech };

/** Fields whose names on the wire are not their names here in snake case. */
export const RENAMED: Record<string, string> = {
  correct: "is_correct",
  freeForm: "is_free_form",
  question: "is_question",
};
