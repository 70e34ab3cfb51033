-- Prompts and answers of keys that ask for it, until they expire. What was said is encrypted: neither a dump of this
-- table nor D1's own past (Time Travel, 30 days) can be read without the edge's secret.
ALTER TABLE keys ADD COLUMN keep_prompts INTEGER;                  -- hours, of an API key; NULL = nothing is kept
ALTER TABLE keys ADD COLUMN prompts INTEGER NOT NULL DEFAULT 0;    -- 1 = an admin key that may read what is kept

CREATE TABLE kept_prompts (
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,          -- unix ms, when the request ended
  id TEXT NOT NULL,             -- of the request
  key_id TEXT NOT NULL,
  name TEXT NOT NULL,           -- that served; '' = none
  expires_at INTEGER NOT NULL,  -- unix ms
  bytes INTEGER NOT NULL,       -- of sealed
  sealed TEXT NOT NULL,         -- base64url, worker/prompts/seal-text.ts
  PRIMARY KEY (tenant, at, id)
);
-- With all that is looked through when there are too many, so that no row is read for it.
CREATE INDEX kept_prompts_of_tenant ON kept_prompts (tenant, at, id, bytes, key_id);
CREATE INDEX kept_prompts_by_expiry ON kept_prompts (expires_at);
CREATE INDEX kept_prompts_by_name ON kept_prompts (name);
