-- Aliases, retired versions, one audit log for everything, and what collecting garbage needs.

ALTER TABLE names ADD COLUMN alias TEXT;           -- the name that this one stands for; such a row has no versions
ALTER TABLE versions ADD COLUMN retired_at INTEGER; -- NULL = may be served

-- `id` orders the changes of all names; (name, sequence) still lets one of two changes through.
CREATE TABLE changes (
  id INTEGER PRIMARY KEY,      -- rows are never deleted, so it only grows
  name TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  owner TEXT NOT NULL,         -- of the name
  action TEXT NOT NULL,        -- publish | drop | stage | promote | rollback | flip | retire | alias | unalias | repair
  from_version INTEGER,
  to_version INTEGER,          -- NULL for an alias
  target TEXT,                 -- of an alias
  why TEXT,
  UNIQUE (name, sequence)
);
INSERT INTO changes (name, sequence, at, actor, owner, action, from_version, to_version)
  SELECT h.name, h.sequence, h.at, h.actor, n.owner, h.action, h.from_version, h.to_version
  FROM history h JOIN names n ON n.name = h.name ORDER BY h.at, h.name, h.sequence;
DROP TABLE history;
ALTER TABLE changes RENAME TO history;
CREATE INDEX history_by_owner ON history (owner, id);
CREATE INDEX history_by_name ON history (name, id);
CREATE INDEX history_by_version ON history (name, to_version);

-- Every adapter of every version's chain, its own included.
CREATE TABLE chain_members (
  digest TEXT NOT NULL,
  name TEXT NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (digest, name, version)
) WITHOUT ROWID;
INSERT OR IGNORE INTO chain_members (digest, name, version)
  SELECT json_extract(member.value, '$.digest'), v.name, v.version FROM versions v, json_each(v.chain) member;

-- One row for every file of which bytes may lie in KV or R2, written before the first of them.
CREATE TABLE stored_files (
  digest TEXT PRIMARY KEY,
  parts INTEGER NOT NULL,      -- no part has an index from here on
  touched_at INTEGER NOT NULL,
  deleting_at INTEGER,         -- marked as garbage; the next touch takes the mark away
  collecting_at INTEGER        -- being deleted: nobody may rely on it or add to it
) WITHOUT ROWID;
CREATE INDEX stored_files_by_touch ON stored_files (touched_at);
INSERT INTO stored_files (digest, parts, touched_at)
  SELECT digest, json_array_length(parts), touched_at FROM blobs;
INSERT INTO stored_files (digest, parts, touched_at)
  SELECT digest, MAX(part) + 1, MAX(at) FROM blob_parts WHERE true GROUP BY digest
  ON CONFLICT (digest) DO UPDATE SET parts = MAX(parts, excluded.parts),
    touched_at = MAX(touched_at, excluded.touched_at);
