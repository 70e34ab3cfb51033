-- What became of the files put under KV's drop:<name>, the last few of each name. Times are unix milliseconds.
CREATE TABLE drops (
  name TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  version INTEGER,             -- that it became; NULL when it was refused
  at INTEGER NOT NULL,         -- when that was decided
  removed_at INTEGER,          -- when the file was taken out of KV
  PRIMARY KEY (name, sha256)
) WITHOUT ROWID;
