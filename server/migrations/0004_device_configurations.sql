-- What operators configure a device with, and the device reads: one JSON object each.
CREATE TABLE device_configurations (
    project_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL,
    PRIMARY KEY (project_id, device_id)
);
