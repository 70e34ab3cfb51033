-- The schedule looks at so many live experiments a run, those that it has not looked at for longest.

ALTER TABLE experiments ADD COLUMN attended_at INTEGER NOT NULL DEFAULT 0; -- when the schedule last took it
CREATE INDEX experiments_in_turn ON experiments (attended_at, id) WHERE status IN ('running', 'ramping');
