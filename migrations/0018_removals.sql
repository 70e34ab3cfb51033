-- Names and versions that were removed: for some days they can be restored. Times are unix milliseconds.

ALTER TABLE versions ADD COLUMN removed_at INTEGER;   -- NULL = it is there
ALTER TABLE versions ADD COLUMN removal INTEGER;      -- id in history; what went at once has the same
ALTER TABLE names ADD COLUMN removed_at INTEGER;      -- NULL = it is there; else version and alias are NULL
ALTER TABLE names ADD COLUMN removal INTEGER;
ALTER TABLE names ADD COLUMN removed_version INTEGER; -- that was live
ALTER TABLE names ADD COLUMN removed_alias TEXT;      -- what it stood for
CREATE INDEX versions_removed ON versions (removed_at, name, version) WHERE removed_at IS NOT NULL;
CREATE INDEX versions_of_removal ON versions (removal, name, version) WHERE removal IS NOT NULL;
CREATE INDEX names_of_removal ON names (removal, name) WHERE removal IS NOT NULL;
CREATE INDEX names_by_alias ON names (alias, name) WHERE alias IS NOT NULL;
