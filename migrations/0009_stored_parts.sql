-- Parts lie under their own sha256, so that tenants who send one file cannot touch each other's. Those of before lie
-- under their number (blob:<digest>:<i>) and are read from there; stored_files.parts counts only them from here on.

-- One row for every part of which bytes may lie in KV or R2 under its hash, written before them.
CREATE TABLE stored_parts (
  digest TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  kept_at INTEGER NOT NULL,    -- last sent, or last relied on by who sent it
  recorded INTEGER NOT NULL DEFAULT 0, -- 1: the finished file is made of it; others are deleted a day after kept_at
  collecting_at INTEGER,       -- being deleted: nobody may send it or rely on it
  PRIMARY KEY (digest, sha256)
) WITHOUT ROWID;
CREATE INDEX stored_parts_surplus ON stored_parts (kept_at) WHERE recorded = 0;

-- Found damaged: nobody holds it before somebody has sent it again.
ALTER TABLE blobs ADD COLUMN damaged_at INTEGER;

-- Where the schedule's long walks go on.
CREATE TABLE upkeep (
  job TEXT PRIMARY KEY,
  cursor TEXT NOT NULL
) WITHOUT ROWID;

-- Versions of a file, in the order in which they are listed, without sorting all of them …
DROP INDEX versions_by_digest;
CREATE INDEX versions_by_digest ON versions (digest, name, version DESC);
-- … and those of a chain, of which a proof is taken over.
CREATE INDEX versions_by_chain ON versions (chain_id, created_at DESC);
