-- Tenants whose grants open nothing for a tenant, those to everybody neither. Times are unix milliseconds.
CREATE TABLE grant_refusals (
  tenant TEXT NOT NULL,        -- who refuses
  owner TEXT NOT NULL,         -- whose adapters
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant, owner)
) WITHOUT ROWID;

-- The key whose place a key took. `replaced_by` names the last that took its place alone, and there can be several.
ALTER TABLE keys ADD COLUMN replaces TEXT;
UPDATE keys SET replaces = old.id FROM keys old WHERE old.replaced_by = keys.id;
-- Where a later rotation took the link, the counter still says which key the row of rotations began with.
UPDATE keys SET replaces = counter WHERE replaces IS NULL AND counter IS NOT NULL AND counter <> id;
CREATE INDEX keys_by_predecessor ON keys (replaces) WHERE replaces IS NOT NULL;
CREATE INDEX keys_by_maker ON keys (created_by);
