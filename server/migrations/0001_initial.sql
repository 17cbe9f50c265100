-- One SQL for SQLite and PostgreSQL: TEXT, BIGINT, BOOLEAN and nothing else.
-- Instants are milliseconds since the Unix epoch; ids come from the program;
-- JSON is TEXT. A column that ends in `_due` is on the steady clock (clock.rs),
-- which no step of the wall clock moves; one that ends in `_at` is wall time.

CREATE TABLE meta (
    name        TEXT   NOT NULL PRIMARY KEY,
    value       TEXT   NOT NULL
);

CREATE TABLE projects (
    id          TEXT   NOT NULL PRIMARY KEY,
    name        TEXT   NOT NULL,
    settings    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE users (
    id            TEXT    NOT NULL PRIMARY KEY,
    username      TEXT    NOT NULL UNIQUE,
    password_hash TEXT    NOT NULL,
    is_admin      BOOLEAN NOT NULL,
    disabled      BOOLEAN NOT NULL,
    created_at    BIGINT  NOT NULL,
    last_login_at BIGINT
);

CREATE TABLE members (
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    user_id     TEXT   NOT NULL REFERENCES users (id),
    role        TEXT   NOT NULL,
    PRIMARY KEY (project_id, user_id)
);
CREATE INDEX members_by_user ON members (user_id);

-- A login. Its id is the access tokens' `jti`; refresh tokens are kept as hashes.
CREATE TABLE sessions (
    id                    TEXT   NOT NULL PRIMARY KEY,
    user_id               TEXT   NOT NULL REFERENCES users (id),
    refresh_hash          TEXT   NOT NULL UNIQUE,
    previous_refresh_hash TEXT,
    from_addr             TEXT   NOT NULL,
    created_at            BIGINT NOT NULL,
    refreshed_at          BIGINT NOT NULL,
    expires_at            BIGINT NOT NULL,
    revoked_at            BIGINT
);
CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_by_previous ON sessions (previous_refresh_hash);

CREATE TABLE service_tokens (
    id           TEXT   NOT NULL PRIMARY KEY,
    project_id   TEXT   NOT NULL REFERENCES projects (id),
    name         TEXT   NOT NULL,
    role         TEXT   NOT NULL,
    token_hash   TEXT   NOT NULL UNIQUE,
    created_by   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT
);
CREATE INDEX service_tokens_by_project ON service_tokens (project_id, id);

CREATE TABLE enrollment_tokens (
    id          TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    token_hash  TEXT   NOT NULL UNIQUE,
    uses        BIGINT NOT NULL,
    used        BIGINT NOT NULL,
    tags        TEXT   NOT NULL,
    created_by  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);
CREATE INDEX enrollment_tokens_by_project ON enrollment_tokens (project_id, id);

CREATE TABLE devices (
    project_id          TEXT   NOT NULL REFERENCES projects (id),
    id                  TEXT   NOT NULL,
    type                TEXT   NOT NULL,
    tags                TEXT   NOT NULL,
    contract            TEXT   NOT NULL,
    secret_hash         TEXT   NOT NULL,
    -- The answer to the device's last enrolment, for who repeats it with the same nonce.
    enroll_nonce        TEXT,
    -- An admin let it enrol anew.
    enroll_again        BOOLEAN NOT NULL,
    enrolled_at         BIGINT NOT NULL,
    retired_at          BIGINT,
    -- Presence.
    status              TEXT   NOT NULL,
    last_seen_at        BIGINT,
    connected           BOOLEAN NOT NULL,
    -- When it is stale unless it is heard; NULL when it is not online.
    stale_due           BIGINT,
    boot_id             TEXT,
    agent_version       TEXT,
    facts               TEXT   NOT NULL,
    capabilities        TEXT   NOT NULL,
    clock_offset_ms     BIGINT,
    -- The last health report.
    health              TEXT,
    health_at           BIGINT,
    reconnect_count     BIGINT NOT NULL,
    last_disconnect_at  BIGINT,
    process_status      TEXT,
    service_failed_unit   TEXT,
    service_failed_reason TEXT,
    service_failed_at     BIGINT,
    active_deployment   TEXT,
    PRIMARY KEY (project_id, id)
);
CREATE INDEX devices_by_status ON devices (project_id, status, id);
CREATE INDEX devices_by_stale ON devices (stale_due) WHERE stale_due IS NOT NULL;
CREATE INDEX devices_failed ON devices (project_id, service_failed_at) WHERE service_failed_at IS NOT NULL;

-- The tags again, one a row, so that both engines filter by them with an index.
CREATE TABLE device_tags (
    project_id  TEXT   NOT NULL,
    device_id   TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    value       TEXT   NOT NULL,
    PRIMARY KEY (project_id, key, value, device_id)
);
CREATE INDEX device_tags_by_device ON device_tags (project_id, device_id);

-- Operations that devices announce, so that the console can offer them.
CREATE TABLE device_operations (
    project_id  TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    device_id   TEXT   NOT NULL,
    PRIMARY KEY (project_id, name, device_id)
);
CREATE INDEX device_operations_by_device ON device_operations (project_id, device_id);

CREATE TABLE batches (
    id          TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL REFERENCES projects (id),
    type        TEXT   NOT NULL,
    payload     TEXT   NOT NULL,
    targets     TEXT   NOT NULL,
    notes       TEXT   NOT NULL,
    count       BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE commands (
    id            TEXT   NOT NULL PRIMARY KEY,
    project_id    TEXT   NOT NULL,
    device_id     TEXT   NOT NULL,
    batch_id      TEXT   NOT NULL REFERENCES batches (id),
    type          TEXT   NOT NULL,
    priority      BIGINT NOT NULL,
    timeout_s     BIGINT NOT NULL,
    created_by    TEXT   NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT NOT NULL,
    expires_due   BIGINT NOT NULL,
    attempt       BIGINT NOT NULL,
    retry_of      TEXT,
    -- What changes.
    status        TEXT   NOT NULL,
    progress      BIGINT,
    step          TEXT,
    state         TEXT,
    published_at  BIGINT,
    accepted_at   BIGINT,
    started_at    BIGINT,
    finished_at   BIGINT,
    cancel_requested_at BIGINT,
    -- The boot id that the device had when it began to reboot.
    boot_id       TEXT,
    -- When the server gives up on the device's word, and on its word after a cancel.
    ends_due      BIGINT,
    cancel_due    BIGINT,
    -- When the sweep looks at it next: never later than one of these; NULL when it has ended.
    due           BIGINT,
    -- Whether it has not ended.
    open          BOOLEAN NOT NULL,
    -- Its message is to be sent whenever the device is there (the outbox).
    deliver       BOOLEAN NOT NULL,
    blocked_until BIGINT,
    result        TEXT,
    exit_code     BIGINT,
    stdout        TEXT,
    stderr        TEXT,
    error_code    TEXT,
    error_message TEXT,
    -- Its timeline, one JSON object a line, and how many. In the row, which is
    -- written anyway, since an event of its own would cost two more B-trees.
    events        BIGINT NOT NULL,
    timeline      TEXT   NOT NULL
);
-- Ids rise with time, so an index that ends in id is in order of creation.
CREATE INDEX commands_by_project ON commands (project_id, id);
CREATE INDEX commands_by_device ON commands (project_id, device_id, id);
-- Most commands have ended, in one status for ever; those that are open are few,
-- and change their status too often to keep them in order of it.
CREATE INDEX commands_by_end ON commands (project_id, status, id) WHERE NOT open;
CREATE INDEX commands_live ON commands (project_id, id) WHERE open;
CREATE INDEX commands_by_type ON commands (project_id, type, id);
CREATE INDEX commands_by_user ON commands (project_id, created_by, id);
CREATE INDEX commands_by_batch ON commands (batch_id, id);
CREATE INDEX commands_by_due ON commands (due) WHERE due IS NOT NULL;
CREATE INDEX commands_open ON commands (project_id, device_id, id) WHERE open;
CREATE INDEX commands_outbox ON commands (project_id, device_id, priority, id) WHERE deliver;
CREATE INDEX commands_by_finish ON commands (project_id, finished_at, id) WHERE finished_at IS NOT NULL;

-- What devices said that is acknowledged and not yet decided: a row a batch, in order;
-- a JSON array of records. Empty but for moments; what a crash leaves is decided at the next start.
CREATE TABLE intake (
    seq         BIGINT NOT NULL PRIMARY KEY,
    words       TEXT   NOT NULL
);

-- How many commands have each status, so that a total needs no count.
CREATE TABLE command_counts (
    project_id  TEXT   NOT NULL,
    status      TEXT   NOT NULL,
    count       BIGINT NOT NULL,
    PRIMARY KEY (project_id, status)
);

-- Live output, a row a chunk; a redelivered chunk meets its own key.
CREATE TABLE command_output (
    command_id  TEXT   NOT NULL,
    stream      TEXT   NOT NULL,
    start       BIGINT NOT NULL,
    text        TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (command_id, stream, start)
);

CREATE TABLE device_events (
    project_id  TEXT   NOT NULL,
    device_id   TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    event       TEXT   NOT NULL,
    by_whom     TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    PRIMARY KEY (project_id, device_id, seq)
);

-- What counts against a lockout: one row a reboot or app restart let through.
CREATE TABLE safety_events (
    command_id  TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL,
    device_id   TEXT   NOT NULL,
    counter     TEXT   NOT NULL,
    -- NULL while the command waits for its device: it counts then, too.
    delivered_due BIGINT
);
CREATE INDEX safety_events_by_device ON safety_events (project_id, device_id, counter, delivered_due);

CREATE TABLE uploads (
    id          TEXT   NOT NULL PRIMARY KEY,
    project_id  TEXT   NOT NULL,
    device_id   TEXT,
    name        TEXT   NOT NULL,
    size_bytes  BIGINT NOT NULL,
    sha256      TEXT   NOT NULL,
    created_by  TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE alerts (
    id              TEXT   NOT NULL PRIMARY KEY,
    project_id      TEXT   NOT NULL,
    -- One open alert per cause: kind and what it is about.
    key             TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    severity        TEXT   NOT NULL,
    severity_rank   BIGINT NOT NULL,
    cause           TEXT   NOT NULL,
    device_id       TEXT,
    command_id      TEXT,
    first_seen_at   BIGINT NOT NULL,
    last_seen_at    BIGINT NOT NULL,
    count           BIGINT NOT NULL,
    acknowledged_by TEXT,
    acknowledged_at BIGINT,
    silenced_until  BIGINT,
    resolved_at     BIGINT
);
CREATE UNIQUE INDEX alerts_open ON alerts (project_id, key) WHERE resolved_at IS NULL;
CREATE INDEX alerts_by_key ON alerts (project_id, key, id);
CREATE INDEX alerts_by_project ON alerts (project_id, id);

CREATE TABLE audit (
    project_id  TEXT   NOT NULL,
    seq         BIGINT NOT NULL,
    at          BIGINT NOT NULL,
    actor       TEXT   NOT NULL,
    from_addr   TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    object      TEXT   NOT NULL,
    outcome     TEXT   NOT NULL,
    detail      TEXT   NOT NULL,
    hash        TEXT   NOT NULL,
    PRIMARY KEY (project_id, seq)
);

-- The newest entry of each chain, signed: a tail that was cut does not reach it.
CREATE TABLE audit_heads (
    project_id  TEXT   NOT NULL PRIMARY KEY,
    seq         BIGINT NOT NULL,
    hash        TEXT   NOT NULL,
    signature   TEXT   NOT NULL
);

CREATE TABLE idempotency (
    project_id  TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    request     TEXT   NOT NULL,
    status      BIGINT NOT NULL,
    answer      TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (project_id, actor, key)
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);
