-- Since when the server may have missed a device's word: its status is from before. NULL while it is heard.
ALTER TABLE devices ADD COLUMN unheard_since BIGINT;
CREATE INDEX devices_unheard ON devices (project_id) WHERE unheard_since IS NOT NULL;
