-- Whether a family's page shows streaks. They are counted all the same: who switches them on again
-- finds them as if they had never been off.
ALTER TABLE parents ADD COLUMN streaks boolean NOT NULL DEFAULT true;

-- Open pages hear of it as they hear of a move to another time zone.
DROP TRIGGER parents_notify ON parents;
CREATE TRIGGER parents_notify AFTER UPDATE ON parents
    FOR EACH ROW
    WHEN ((OLD.timezone, OLD.coppa, OLD.audio, OLD.analytics, OLD.streaks, OLD.deleted_at)
        IS DISTINCT FROM (NEW.timezone, NEW.coppa, NEW.audio, NEW.analytics, NEW.streaks, NEW.deleted_at))
    EXECUTE FUNCTION notify_children_of_parent();
