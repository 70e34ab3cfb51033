-- Rooms that the operator reserved: what does not exist yet at or below the name is the tenant's to take.
CREATE TABLE rooms (
  name TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX rooms_by_tenant ON rooms (tenant, name);
-- history: reserve | unreserve, with sequences below 0, since the name need not exist.

-- Whose adapters each scope opens, JSON, in the order of `scopes`; NULL in it, or as a whole = whoever owns them.
ALTER TABLE keys ADD COLUMN owners TEXT;

-- Unix ms: since when an adapter that the version stands on, and that is another owner's, is retired. NULL = never.
ALTER TABLE versions ADD COLUMN withdrawn_at INTEGER;

-- Names whose pointer KV is still to be told of, because of a change of another name.
CREATE TABLE stale_pointers (
  name TEXT PRIMARY KEY,
  since INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX stale_pointers_by_time ON stale_pointers (since, name);
