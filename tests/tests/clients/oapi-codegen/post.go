// Posts an event of each type with the client that oapi-codegen makes.
package main

import (
	"context"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/google/uuid"

	"clients/rivulet"
)

func some[T any](value T) *T { return &value }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	child := uuid.MustParse(os.Getenv("CHILD"))
	now := time.Now()

	var text, number, flag rivulet.AttributeValue
	check(text.FromAttributeValue0("b"))
	check(number.FromAttributeValue1(0.1))
	check(flag.FromAttributeValue2(true))
	events := make([]rivulet.Event, 4)
	check(events[0].FromInteractionEvent(rivulet.InteractionEvent{
		Id: uuid.New(), Type: rivulet.InteractionEventTypeInteraction, ChildId: child, OccurredAt: now,
		Device:     &rivulet.Device{Platform: some(rivulet.PlatformIos), AppVersion: some("4.12.1")},
		Attributes: &rivulet.Attributes{"experiment": &text, "price": &number, "trial": &flag},
		Data: rivulet.Interaction{
			Action: rivulet.InteractionActionAnswer, IsCorrect: some(true), Confidence: some(0.25),
		},
	}))
	check(events[1].FromMessageEvent(rivulet.MessageEvent{
		Id: uuid.New(), Type: rivulet.MessageEventTypeMessage, ChildId: child, OccurredAt: now,
		Data: rivulet.Message{ConversationId: uuid.New(), Sequence: 1, Role: rivulet.User},
	}))
	check(events[2].FromSpeechEvent(rivulet.SpeechEvent{
		Id: uuid.New(), Type: rivulet.SpeechEventTypeSpeech, ChildId: child, OccurredAt: now,
		Data: rivulet.Speech{AudioSessionId: uuid.New(), WindowMs: 30_000, SnrDb: some(12.5)},
	}))
	check(events[3].FromSessionEvent(rivulet.SessionEvent{
		Id: uuid.New(), Type: rivulet.SessionEventTypeSession, ChildId: child, OccurredAt: now,
		SessionId: uuid.New(),
		Data:      rivulet.Session{Action: rivulet.SessionActionStart, Kind: some(rivulet.SessionKindLearning)},
	}))

	post := func(key string) *rivulet.PostEventsResponse {
		login := func(_ context.Context, request *http.Request) error {
			request.Header.Set("Authorization", "Bearer "+key)
			return nil
		}
		client, err := rivulet.NewClientWithResponses(os.Getenv("INGEST_URL"), rivulet.WithRequestEditorFn(login))
		check(err)
		answer, err := client.PostEventsWithResponse(context.Background(), &rivulet.PostEventsParams{},
			rivulet.Batch{SentAt: &now, Events: events})
		check(err)
		return answer
	}
	answer := post(os.Getenv("INGEST_KEY"))
	if answer.JSON200 == nil || len(answer.JSON200.Results) != len(events) {
		log.Fatalf("%s: %s", answer.Status(), answer.Body)
	}
	for _, result := range answer.JSON200.Results {
		if result.Outcome != rivulet.Accepted {
			log.Fatalf("%s", answer.Body)
		}
	}
	refused := post("wrong").ApplicationproblemJSON401
	if refused == nil || refused.Code != "unauthorized" {
		log.Fatalf("%v", refused)
	}
}
