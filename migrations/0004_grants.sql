-- Rights that owners gave away: the tenant may use what the owner has published under names that the scope covers.
CREATE TABLE grants (
  tenant TEXT NOT NULL,        -- who has it; * = everybody
  scope TEXT NOT NULL,
  owner TEXT NOT NULL,         -- whose adapters; * = everybody's, which only the bootstrap key gives
  created_at INTEGER NOT NULL,
  created_by TEXT NOT NULL,
  PRIMARY KEY (tenant, scope, owner)
) WITHOUT ROWID;
CREATE INDEX grants_by_owner ON grants (owner, tenant, scope);
