-- To tell which logs of sessions are recordings.
CREATE INDEX recordings_by_tunnel ON recordings (tunnel_id);
