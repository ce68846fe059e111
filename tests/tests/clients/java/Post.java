// Posts an event of each type with the client that openapi-generator's java makes.

import static org.openapitools.client.model.Fate.ACCEPTED;

import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.EventsApi;
import org.openapitools.client.model.*;

class Post {
    static final OffsetDateTime NOW = OffsetDateTime.now();
    static final UUID CHILD = UUID.fromString(System.getenv("CHILD"));

    public static void main(String[] args) throws Exception {
        var interaction = new InteractionEvent()
            .id(UUID.randomUUID()).type(InteractionEvent.TypeEnum.INTERACTION).childId(CHILD).occurredAt(NOW)
            .device(new Device().platform(Platform.IOS).appVersion("4.12.1"))
            .attributes(Map.of(
                "experiment", new AttributeValue("b"),
                "price", new AttributeValue(0.5),
                "trial", new AttributeValue(true)))
            .data(new Interaction()
                .action(Interaction.ActionEnum.ANSWER).isCorrect(true).confidence(0.25));
        var message = new MessageEvent()
            .id(UUID.randomUUID()).type(MessageEvent.TypeEnum.MESSAGE).childId(CHILD).occurredAt(NOW)
            .data(new Message()
                .conversationId(UUID.randomUUID()).sequence(1L).role(Message.RoleEnum.USER));
        var speech = new SpeechEvent()
            .id(UUID.randomUUID()).type(SpeechEvent.TypeEnum.SPEECH).childId(CHILD).occurredAt(NOW)
            .data(new Speech().audioSessionId(UUID.randomUUID()).windowMs(30_000).snrDb(12.5));
        var session = new SessionEvent()
            .id(UUID.randomUUID()).type(SessionEvent.TypeEnum.SESSION).childId(CHILD).occurredAt(NOW)
            .sessionId(UUID.randomUUID())
            .data(new Session().action(Session.ActionEnum.START).kind(SessionKind.LEARNING));
        var batch = new Batch().sentAt(NOW).events(List.of(
            new Event(interaction), new Event(message), new Event(speech), new Event(session)));

        var receipt = api(System.getenv("INGEST_KEY")).postEvents(batch, null, null, null);
        var outcomes = receipt.getResults().stream().map(EventOutcome::getOutcome).toList();
        check(outcomes.equals(List.of(ACCEPTED, ACCEPTED, ACCEPTED, ACCEPTED)), receipt);

        try {
            check(false, api("wrong").postEvents(batch, null, null, null));
        } catch (ApiException refused) {
            check(Problem.fromJson(refused.getResponseBody()).getCode().equals("unauthorized"), refused);
        }
    }

    static EventsApi api(String key) {
        var client = new ApiClient().setBasePath(System.getenv("INGEST_URL"));
        client.setBearerToken(key);
        return new EventsApi(client);
    }

    static void check(boolean holds, Object otherwise) {
        if (!holds) throw new AssertionError(otherwise);
    }
}
