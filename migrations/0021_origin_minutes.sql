-- How busy each origin was, by the minute; kept 26 h.
CREATE TABLE origin_minutes (
  at INTEGER NOT NULL,         -- unix seconds
  origin TEXT NOT NULL,
  rows_running INTEGER NOT NULL,
  requests_waiting INTEGER NOT NULL,  -- for a row or an adapter
  slots INTEGER NOT NULL,
  adapters_resident INTEGER NOT NULL,
  adapter_bytes INTEGER NOT NULL,
  memory_bytes INTEGER NOT NULL,
  PRIMARY KEY (at, origin)
) WITHOUT ROWID;
