/** Every command of `graft`, in the groups and the order of `graft --help`; help, completion and docs/reference/commands.md read it. */
import type { Command, CommandGroup } from './command.ts';

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    title: 'serve',
    commands: {
      dev: {
        summary: 'Start origin and edge on this machine, with example adapters',
        load: async () => (await import('./commands/dev.ts')).devCommand,
      },
      open: {
        summary: 'Open the console in the browser, signed in',
        load: async () => (await import('./commands/account.ts')).openCommand,
      },
      origin: {
        summary: 'Start one origin of a deployment',
        load: async () => (await import('./commands/origin.ts')).originCommand,
      },
      deploy: {
        summary: 'Put the edge on Cloudflare, or a new version of it',
        load: async () => (await import('./commands/deploy.ts')).deployCommand,
      },
      edge: {
        summary: 'Start an edge on this machine before origins that run already',
        load: async () => (await import('./commands/edge.ts')).edgeCommand,
      },
      secrets: {
        summary: 'Make the secrets of a deployment',
        load: async () => (await import('./commands/secrets.ts')).secretsCommand,
      },
      pull: {
        summary: 'Get a base model into the cache (GRAFT_CACHE)',
        load: async () => (await import('./commands/base.ts')).pullCommand,
      },
      base: {
        summary: 'Write the base for browsers, which then run it themselves',
        load: async () => (await import('./commands/base.ts')).baseCommand,
      },
      run: {
        summary: 'Ask an adapter, or the base model, and stream its answer',
        load: async () => (await import('./commands/run.ts')).runCommand,
      },
      chat: {
        summary: 'The same as `graft run`',
        load: async () => ({ default: (await import('./commands/run.ts')).runCommand.default }),
      },
      ls: {
        summary: 'List names and their live versions',
        load: async () => (await import('./commands/names.ts')).lsCommand,
      },
      list: {
        summary: 'The same as `graft ls`',
        load: async () => ({ default: (await import('./commands/names.ts')).lsCommand.default }),
      },
      ps: {
        summary: 'Show the adapters that the origins hold in memory',
        load: async () => (await import('./commands/origins.ts')).psCommand,
      },
      warm: {
        summary: 'Have a version loaded where it will be served',
        load: async () => (await import('./commands/origins.ts')).warmCommand,
      },
      pin: {
        summary: 'Have the origins keep a name’s adapters in memory',
        load: async () => (await import('./commands/origins.ts')).pinCommand,
      },
      unpin: {
        summary: 'Let the origins forget a pinned name’s adapters',
        load: async () => (await import('./commands/origins.ts')).unpinCommand,
      },
    },
  },
  {
    title: 'adapters',
    commands: {
      show: {
        summary: 'Show what is in an adapter, module by module',
        load: async () => (await import('./commands/inspect.ts')).showCommand,
      },
      pack: {
        summary: 'Check an adapter and write its canonical file',
        load: async () => (await import('./commands/pack.ts')).packCommand,
      },
      convert: {
        summary: 'Write an adapter in another format',
        load: async () => (await import('./commands/pack.ts')).convertCommand,
      },
      compose: {
        summary: 'Add adapters up into one',
        load: async () => (await import('./commands/compose.ts')).composeCommand,
      },
      diff: {
        summary: 'Compare two adapters, module by module',
        load: async () => (await import('./commands/inspect.ts')).diffCommand,
      },
      publish: {
        summary: 'Check, pack and upload an adapter, and make it live',
        load: async () => (await import('./commands/publish.ts')).publishCommand,
      },
      verify: {
        summary: 'Have every origin check a version, or check a file here',
        load: async () => (await import('./commands/verify.ts')).verifyCommand,
      },
      download: {
        summary: 'Fetch a published version back',
        load: async () => (await import('./commands/download.ts')).downloadCommand,
      },
      compare: {
        summary: 'Compare the answers of two or more names to the same prompts',
        load: async () => (await import('./commands/compare.ts')).compareCommand,
      },
    },
  },
  {
    title: 'versions',
    commands: {
      versions: {
        summary: 'List the versions of a name: what they are, who made them and when',
        load: async () => (await import('./commands/versions.ts')).versionsCommand,
      },
      history: {
        summary: 'Show the changes of a name, or of all: who, when, from, to, why',
        load: async () => (await import('./commands/versions.ts')).historyCommand,
      },
      log: {
        summary: 'The same as `graft history`',
        load: async () => ({ default: (await import('./commands/versions.ts')).historyCommand.default }),
      },
      promote: {
        summary: 'Make a staged version live',
        load: async () => (await import('./commands/versions.ts')).promoteCommand,
      },
      rollback: {
        summary: 'Make an earlier version live again',
        load: async () => (await import('./commands/versions.ts')).rollbackCommand,
      },
      retire: {
        summary: 'Take a version out of use for good',
        load: async () => (await import('./commands/versions.ts')).retireCommand,
      },
      rm: {
        summary: 'Remove a name, or a version of it',
        load: async () => (await import('./commands/versions.ts')).rmCommand,
      },
      restore: {
        summary: 'Bring back what was removed in the last seven days',
        load: async () => (await import('./commands/versions.ts')).restoreCommand,
      },
      erase: {
        summary: 'Erase names, or all of a tenant, for good',
        load: async () => (await import('./commands/erase.ts')).eraseCommand,
      },
      alias: {
        summary: 'Make a name stand for another one',
        load: async () => (await import('./commands/names.ts')).aliasCommand,
      },
      edit: {
        summary: 'Say what a name is for: its description and tags',
        load: async () => (await import('./commands/names.ts')).editCommand,
      },
      strict: {
        summary: 'Let missing names below a name be answered by none above it',
        load: async () => (await import('./commands/names.ts')).strictCommand,
      },
      repair: {
        summary: 'Write KV again as D1 says, where it is otherwise',
        load: async () => (await import('./commands/upkeep.ts')).repairCommand,
      },
      backup: {
        summary: 'Write all that a server keeps into a folder',
        load: async () => (await import('./commands/backup.ts')).backupCommand,
      },
      'restore-backup': {
        summary: 'Bring a backup back into an empty server',
        load: async () => (await import('./commands/backup.ts')).restoreBackupCommand,
      },
      gc: {
        summary: 'Delete files that no version has',
        load: async () => (await import('./commands/upkeep.ts')).gcCommand,
      },
    },
  },
  {
    title: 'experiments',
    commands: {
      experiment: {
        summary: 'Run A/B tests: create, start, watch, promote',
        load: async () => (await import('./commands/experiment.ts')).experimentCommand,
      },
    },
  },
  {
    title: 'tenants',
    commands: {
      keys: {
        summary: 'List, create, change, rotate and revoke keys',
        load: async () => (await import('./commands/keys.ts')).keysCommand,
      },
      limits: {
        summary: 'List, set, lift and reset limits of whole tenants',
        load: async () => (await import('./commands/limits.ts')).limitsCommand,
      },
      grant: {
        summary: 'Let other tenants, or everybody, use your adapters',
        load: async () => (await import('./commands/grant.ts')).grantCommand,
      },
      reserve: {
        summary: 'Reserve a name, and all below it, for a tenant',
        load: async () => (await import('./commands/names.ts')).reserveCommand,
      },
      rooms: {
        summary: 'List the rooms that are reserved for tenants',
        load: async () => (await import('./commands/names.ts')).roomsCommand,
      },
      usage: {
        summary: 'Show who used how many tokens',
        load: async () => (await import('./commands/usage.ts')).usageCommand,
      },
      requests: {
        summary: 'List the last requests',
        load: async () => (await import('./commands/usage.ts')).requestsCommand,
      },
      logs: {
        summary: 'The same as `graft requests`',
        load: async () => ({ default: (await import('./commands/usage.ts')).requestsCommand.default }),
      },
    },
  },
  {
    title: 'account',
    commands: {
      login: {
        summary: 'Keep a key of a server, for later commands',
        load: async () => (await import('./commands/account.ts')).loginCommand,
      },
      logout: {
        summary: 'Forget the keys of a server',
        load: async () => (await import('./commands/account.ts')).logoutCommand,
      },
      openapi: {
        summary: 'Print the OpenAPI document of the server',
        load: async () => (await import('./commands/account.ts')).openapiCommand,
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
