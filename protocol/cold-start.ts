/**
 * What an origin tells the edge of an answer that waited for an adapter to be read into memory, in its header
 * (`x-graft-cold: true`); absent otherwise. What it lacked altogether the edge knows itself.
 */
export const COLD_HEADER = 'x-graft-cold';
