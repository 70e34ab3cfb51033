import type { ArgsDef } from 'citty';

/** Flags of every command that writes an adapter. */
export const outputFlags = {
  out: {
    type: 'string',
    alias: 'o',
    description: 'Where to write; a folder for PEFT, else a file',
    valueHint: 'path',
    required: true,
  },
  force: { type: 'boolean', description: 'Write over what is there' },
} as const satisfies ArgsDef;
