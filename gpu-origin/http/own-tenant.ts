/**
 * Whose share of the machine work takes that no tenant asked for: everything in `--dev`, and trials of an edge that does
 * not say for whom. Tenants' names are made of [a-z0-9._-], so that none of them can be called so.
 */
export const OWN_TENANT = ':origin';
