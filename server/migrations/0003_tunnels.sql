-- Sessions with devices, those that are over included.
CREATE TABLE tunnels (
    id            TEXT    NOT NULL PRIMARY KEY,
    project_id    TEXT    NOT NULL REFERENCES projects (id),
    device_id     TEXT    NOT NULL,
    -- Who opened it.
    username      TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    -- What was asked for: a JSON object, as in the request.
    request       TEXT    NOT NULL,
    -- What frames call it: among the tunnels of its device one only ever has it.
    handle        BIGINT  NOT NULL,
    created_at    BIGINT  NOT NULL,
    -- When it has been open for as long as may be.
    ends_due      BIGINT  NOT NULL,
    -- What changes.
    status        TEXT    NOT NULL,
    -- Whether it is not over.
    open          BOOLEAN NOT NULL,
    -- Of this end of its streams: one more with each start of the server.
    life          BIGINT  NOT NULL,
    -- Of the consoles' input streams: a JSON array.
    input_lives   TEXT    NOT NULL,
    attached      BIGINT  NOT NULL,
    bytes_up      BIGINT  NOT NULL,
    bytes_down    BIGINT  NOT NULL,
    opened_at     BIGINT,
    last_activity_at BIGINT,
    closed_at     BIGINT,
    close_reason  TEXT,
    close_message TEXT,
    exit_code     BIGINT,
    listen_port   BIGINT,
    recording_id  TEXT
);
CREATE INDEX tunnels_by_project ON tunnels (project_id, id);
CREATE INDEX tunnels_by_device ON tunnels (project_id, device_id, handle);
CREATE INDEX tunnels_by_user ON tunnels (project_id, username, id);
CREATE INDEX tunnels_open ON tunnels (username) WHERE open;

CREATE TABLE recordings (
    id            TEXT    NOT NULL PRIMARY KEY,
    project_id    TEXT    NOT NULL REFERENCES projects (id),
    tunnel_id     TEXT    NOT NULL,
    device_id     TEXT    NOT NULL,
    username      TEXT    NOT NULL,
    argv          TEXT    NOT NULL,
    has_input     BOOLEAN NOT NULL,
    status        TEXT    NOT NULL,
    bytes         BIGINT  NOT NULL,
    started_at    BIGINT  NOT NULL,
    ended_at      BIGINT,
    expires_at    BIGINT
);
CREATE INDEX recordings_by_project ON recordings (project_id, id);
CREATE INDEX recordings_by_expiry ON recordings (expires_at) WHERE expires_at IS NOT NULL;
