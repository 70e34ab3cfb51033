-- System of record. KV is derived from it and can be rebuilt. Times are unix milliseconds.

CREATE TABLE names (
  name TEXT PRIMARY KEY,
  owner TEXT NOT NULL,
  version INTEGER,             -- the live one; NULL while all are staged
  latest INTEGER NOT NULL,
  sequence INTEGER NOT NULL    -- of the last row in history
) WITHOUT ROWID;
CREATE INDEX names_by_owner ON names (owner, name);

CREATE TABLE versions (
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  digest TEXT NOT NULL,
  owner TEXT NOT NULL,
  chain TEXT NOT NULL,         -- JSON, root first
  chain_id TEXT NOT NULL,
  parent TEXT,                 -- name@version
  base_id TEXT NOT NULL,
  base_digest TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  rank INTEGER NOT NULL,
  rank_sum INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (name, version)
) WITHOUT ROWID;
CREATE INDEX versions_by_digest ON versions (digest);

-- Every change of a name. Two changes that read the same state want the same sequence number, and one of them fails.
CREATE TABLE history (
  name TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,        -- publish | stage | flip
  from_version INTEGER,
  to_version INTEGER NOT NULL,
  PRIMARY KEY (name, sequence)
) WITHOUT ROWID;

CREATE TABLE blobs (
  digest TEXT PRIMARY KEY,
  bytes INTEGER NOT NULL,
  parts TEXT NOT NULL,         -- JSON [{bytes, sha256}]
  created_at INTEGER NOT NULL,
  touched_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Who sent which part, and who sent all of them: a digest alone gives no right to anything.
CREATE TABLE blob_parts (
  digest TEXT NOT NULL,
  tenant TEXT NOT NULL,
  part INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (digest, tenant, part)
) WITHOUT ROWID;

CREATE TABLE blob_holders (
  digest TEXT NOT NULL,
  tenant TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (digest, tenant)
) WITHOUT ROWID;

CREATE TABLE keys (
  id TEXT PRIMARY KEY,
  hash TEXT NOT NULL UNIQUE,   -- sha256; the key itself is shown once and kept nowhere
  kind TEXT NOT NULL CHECK (kind IN ('api', 'admin')),
  tenant TEXT NOT NULL,
  scopes TEXT NOT NULL,        -- JSON
  label TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  revoked_at INTEGER
) WITHOUT ROWID;
CREATE INDEX keys_by_tenant ON keys (tenant, created_at);
