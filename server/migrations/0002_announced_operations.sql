-- What devices tell of the operations that they have from workflow files.
ALTER TABLE device_operations ADD COLUMN dangerous BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE device_operations ADD COLUMN reboots BOOLEAN NOT NULL DEFAULT FALSE;
-- JSON; absent where the device tells nothing but the name.
ALTER TABLE device_operations ADD COLUMN card TEXT;
-- Which announcement stands in device_operations: a repeated one writes nothing.
ALTER TABLE devices ADD COLUMN announcement_hash TEXT;
