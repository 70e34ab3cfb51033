-- What all keys of a tenant may use together, and which limits of keys a tenant may only lower.
CREATE TABLE tenant_limits (
  tenant TEXT PRIMARY KEY,
  limits TEXT,                 -- JSON, worker/metering/ports.ts KeyLimits; NULL = lifted
  at INTEGER NOT NULL,         -- unix ms
  actor TEXT NOT NULL,
  revision INTEGER NOT NULL,   -- grows with each change
  written_to TEXT              -- keys up to this id have them in KV; NULL = all have
) WITHOUT ROWID;
CREATE INDEX keys_of_tenant ON keys (tenant, id);
CREATE INDEX tenant_limits_unwritten ON tenant_limits (tenant) WHERE written_to IS NOT NULL;

ALTER TABLE keys ADD COLUMN limits_fixed INTEGER NOT NULL DEFAULT 0; -- the bootstrap key set them
UPDATE keys SET limits_fixed = 1 WHERE limits IS NOT NULL AND (
  created_by = 'bootstrap' OR counter IN (SELECT id FROM keys WHERE created_by = 'bootstrap'));
