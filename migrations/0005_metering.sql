-- Keys: what ends them, what limits them, how they are answered.
ALTER TABLE keys ADD COLUMN expires_at INTEGER;      -- unix ms; NULL = never
ALTER TABLE keys ADD COLUMN strict INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keys ADD COLUMN degrade TEXT;
ALTER TABLE keys ADD COLUMN limits TEXT;             -- JSON, worker/metering/ports.ts KeyLimits
ALTER TABLE keys ADD COLUMN counter TEXT;            -- id of the key whose quota it counts against; NULL = its own
ALTER TABLE keys ADD COLUMN replaced_by TEXT;

-- Who used what, by the hour (hours since 1970, UTC).
CREATE TABLE usage (
  tenant TEXT NOT NULL,
  hour INTEGER NOT NULL,
  key_id TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,    -- 0 for the base model
  requests INTEGER NOT NULL,
  errors INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  PRIMARY KEY (tenant, hour, key_id, name, version)
) WITHOUT ROWID;
CREATE INDEX usage_by_hour ON usage (hour);

-- Batches of the last days, so that one that is sent again is not counted again.
CREATE TABLE usage_batches (
  id TEXT PRIMARY KEY,
  at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX usage_batches_by_time ON usage_batches (at);

-- Names whose live chain the origins are asked to keep in memory.
CREATE TABLE pins (
  name TEXT PRIMARY KEY,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL
) WITHOUT ROWID;
