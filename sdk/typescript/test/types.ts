// Compiled, never run: a line below @ts-expect-error has to be an error.
import { answer, message, open, session, speech, startSession, type Options, type Stats } from "@rivulet/sdk";
import * as page from "@rivulet/sdk/browser";
import { startSession as startIn } from "@rivulet/sdk/browser-session";
import { fake } from "@rivulet/sdk/fake";
import { appState, asyncStorage } from "@rivulet/sdk/react-native";

const options: Options = { url: "https://ingest.example.org", credential: async () => "token" };
const rivulet = open(options);
const child = rivulet.child("0197a1b2-1111-7222-8333-444444444444");

child.answer({ correct: true, subject: "math" }, { sessionId: "s", attributes: { experiment: "b" } });
child.rate({ rating: 5 });
child.start();
child.track(answer({ correct: false }));
child.message({ conversationId: "c", sequence: 1, role: "user", question: true });
startSession(child, { kind: "quiz" }).end();
startIn(page.open(options).child("c")).end();
const stats: Promise<Stats> = rivulet.stats();
stats.then(({ dropped }) => dropped["overflow"]?.toFixed());
fake().assertTracked(speech({ audioSessionId: "a", windowMs: 1 })).data;
declare const AsyncStorage: Parameters<typeof asyncStorage>[0];
declare const AppState: Parameters<typeof appState>[0];
open({ ...options, store: asyncStorage(AsyncStorage), lifecycle: appState(AppState) });

// @ts-expect-error an answer is right or wrong
child.answer({ subject: "math" });
// @ts-expect-error a rating is what a rate is for
child.rate();
// @ts-expect-error only an answer is correct
child.hint({ correct: true });
// @ts-expect-error no such field
child.answer({ correct: true, colour: "red" });
// @ts-expect-error a word that is none of the list
child.message({ conversationId: "c", sequence: 1, role: "teacher" });
// @ts-expect-error a message has a place in its conversation
message({ conversationId: "c", role: "user" });
// @ts-expect-error a number
child.view({ responseTimeMs: "12" });
// @ts-expect-error an event of a session says which
session({ action: "start" });
// @ts-expect-error no such kind of session
startSession(child, { kind: "exam" });
// @ts-expect-error what a session knows of the app is nobody else's
child._app;
// @ts-expect-error an attribute is no list
child.view({}, { attributes: { tags: ["a"] } });
// @ts-expect-error no credential
open({ url: "https://ingest.example.org" });
// @ts-expect-error no such platform
open({ ...options, device: { platform: "amiga" } });
