/** Every command of `graft`, in the groups and the order of `graft --help`; help, completion and docs/cli.md read it. */
import type { Command, CommandGroup } from './command-types.ts';

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    title: 'serve',
    commands: {
      dev: {
        summary: 'Start origin and edge on this machine, with example adapters',
        load: () => import('./commands/dev.ts'),
      },
      open: {
        summary: 'Open the console in the browser, signed in',
        load: () => import('./commands/open.ts'),
      },
      origin: { summary: 'Start one origin of a deployment', load: () => import('./commands/origin.ts') },
      deploy: {
        summary: 'Put the edge on Cloudflare, or a new version of it',
        load: () => import('./commands/deploy.ts'),
      },
      edge: {
        summary: 'Start an edge on this machine before origins that run already',
        load: () => import('./commands/edge.ts'),
      },
      secrets: { summary: 'Make the secrets of a deployment', load: () => import('./commands/secrets.ts') },
      pull: {
        summary: 'Get a base model into the cache (GRAFT_CACHE)',
        load: () => import('./commands/pull.ts'),
      },
      base: {
        summary: 'Write the base for browsers, which then run it themselves',
        load: () => import('./commands/base.ts'),
      },
      run: {
        summary: 'Ask an adapter, or the base model, and stream its answer',
        load: () => import('./commands/run.ts'),
      },
      chat: {
        summary: 'The same as `graft run`',
        load: async () => ({ default: (await import('./commands/run.ts')).default }),
      },
      ls: { summary: 'List names and their live versions', load: () => import('./commands/ls.ts') },
      list: {
        summary: 'The same as `graft ls`',
        load: async () => ({ default: (await import('./commands/ls.ts')).default }),
      },
      ps: {
        summary: 'Show the adapters that the origins hold in memory',
        load: () => import('./commands/ps.ts'),
      },
      warm: {
        summary: 'Have a version loaded where it will be served',
        load: () => import('./commands/warm.ts'),
      },
      pin: {
        summary: 'Have the origins keep a name’s adapters in memory',
        load: () => import('./commands/pin.ts'),
      },
      unpin: {
        summary: 'Let the origins forget a pinned name’s adapters',
        load: () => import('./commands/unpin.ts'),
      },
    },
  },
  {
    title: 'adapters',
    commands: {
      show: {
        summary: 'Show what is in an adapter, module by module',
        load: () => import('./commands/show.ts'),
      },
      pack: {
        summary: 'Check an adapter and write its canonical file',
        load: () => import('./commands/pack.ts'),
      },
      convert: { summary: 'Write an adapter in another format', load: () => import('./commands/convert.ts') },
      compose: { summary: 'Add adapters up into one', load: () => import('./commands/compose.ts') },
      diff: { summary: 'Compare two adapters, module by module', load: () => import('./commands/diff.ts') },
      publish: {
        summary: 'Check, pack and upload an adapter, and make it live',
        load: () => import('./commands/publish.ts'),
      },
      verify: {
        summary: 'Have every origin check a version, or check a file here',
        load: () => import('./commands/verify.ts'),
      },
      download: { summary: 'Fetch a published version back', load: () => import('./commands/download.ts') },
      compare: {
        summary: 'Compare the answers of two or more names to the same prompts',
        load: () => import('./commands/compare.ts'),
      },
    },
  },
  {
    title: 'versions',
    commands: {
      versions: {
        summary: 'List the versions of a name: what they are, who made them and when',
        load: () => import('./commands/versions.ts'),
      },
      history: {
        summary: 'Show the changes of a name, or of all: who, when, from, to, why',
        load: () => import('./commands/history.ts'),
      },
      log: {
        summary: 'The same as `graft history`',
        load: async () => ({ default: (await import('./commands/history.ts')).default }),
      },
      promote: { summary: 'Make a staged version live', load: () => import('./commands/promote.ts') },
      rollback: {
        summary: 'Make an earlier version live again',
        load: () => import('./commands/rollback.ts'),
      },
      retire: { summary: 'Take a version out of use for good', load: () => import('./commands/retire.ts') },
      rm: { summary: 'Remove a name, or a version of it', load: () => import('./commands/rm.ts') },
      restore: {
        summary: 'Bring back what was removed in the last seven days',
        load: () => import('./commands/restore.ts'),
      },
      erase: {
        summary: 'Erase names, or all of a tenant, for good',
        load: () => import('./commands/erase.ts'),
      },
      alias: { summary: 'Make a name stand for another one', load: () => import('./commands/alias.ts') },
      edit: {
        summary: 'Say what a name is for: its description and tags',
        load: () => import('./commands/edit.ts'),
      },
      strict: {
        summary: 'Let missing names below a name be answered by none above it',
        load: () => import('./commands/strict.ts'),
      },
      repair: {
        summary: 'Write KV again as D1 says, where it is otherwise',
        load: () => import('./commands/repair.ts'),
      },
      backup: {
        summary: 'Write all that a server keeps into a folder',
        load: () => import('./commands/backup.ts'),
      },
      'restore-backup': {
        summary: 'Bring a backup back into an empty server',
        load: () => import('./commands/restore-backup.ts'),
      },
      gc: { summary: 'Delete files that no version has', load: () => import('./commands/gc.ts') },
    },
  },
  {
    title: 'experiments',
    commands: {
      experiment: {
        summary: 'Run A/B tests: create, start, watch, promote',
        load: () => import('./commands/experiment.ts'),
      },
    },
  },
  {
    title: 'tenants',
    commands: {
      keys: {
        summary: 'List, create, change, rotate and revoke keys',
        load: () => import('./commands/keys.ts'),
      },
      limits: {
        summary: 'List, set, lift and reset limits of whole tenants',
        load: () => import('./commands/limits.ts'),
      },
      grant: {
        summary: 'Let other tenants, or everybody, use your adapters',
        load: () => import('./commands/grant.ts'),
      },
      reserve: {
        summary: 'Reserve a name, and all below it, for a tenant',
        load: () => import('./commands/reserve.ts'),
      },
      rooms: {
        summary: 'List the rooms that are reserved for tenants',
        load: () => import('./commands/rooms.ts'),
      },
      usage: { summary: 'Show who used how many tokens', load: () => import('./commands/usage.ts') },
      requests: { summary: 'List the last requests', load: () => import('./commands/requests.ts') },
      logs: {
        summary: 'The same as `graft requests`',
        load: async () => ({ default: (await import('./commands/requests.ts')).default }),
      },
    },
  },
  {
    title: 'account',
    commands: {
      login: {
        summary: 'Keep a key of a server, for later commands',
        load: () => import('./commands/login.ts'),
      },
      logout: { summary: 'Forget the keys of a server', load: () => import('./commands/logout.ts') },
      openapi: {
        summary: 'Print the OpenAPI document of the server',
        load: () => import('./commands/openapi.ts'),
      },
      completion: {
        summary: 'Print a script that completes commands in a shell',
        load: async () => {
          const { completionCommand, help } = await import('./commands/completion.ts');
          return { default: completionCommand(() => COMMAND_GROUPS), help };
        },
      },
    },
  },
];

/** @returns undefined when there is no such verb. */
export function findCommand(verb: string): Command | undefined {
  const group = COMMAND_GROUPS.find(({ commands }) => Object.hasOwn(commands, verb));
  return group?.commands[verb];
}

export const commandNames = (): string[] => COMMAND_GROUPS.flatMap(({ commands }) => Object.keys(commands));
