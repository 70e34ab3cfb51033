-- Every change of what a name points at notes the name here, in its own transaction, until KV has been told.

-- Latest row of history when the name was noted: what was written stands for changes up to here, and no later ones.
ALTER TABLE stale_pointers ADD COLUMN change INTEGER NOT NULL DEFAULT 0;
