-- What is to be delivered is a part of what is open, which is little for each device:
-- one index serves both, and accepting a command touches none.
DROP INDEX commands_outbox;
DROP INDEX commands_open;
CREATE INDEX commands_open ON commands (project_id, device_id, priority, id) WHERE open;
