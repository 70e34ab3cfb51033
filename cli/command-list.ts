/**
 * Every command of `graft`, in the groups and the order of `graft --help`. Help, completion and
 * docs/reference/commands.md read it.
 */
import type { Command, CommandGroup } from './command.ts';

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    title: 'serve',
    commands: {
      dev: {
        summary: 'Start an origin and an edge on this machine, with example adapters',
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
        summary: 'Deploy the edge to Cloudflare, or update it',
        load: async () => (await import('./commands/deploy.ts')).deployCommand,
      },
      edge: {
        summary: 'Start an edge on this machine, in front of running origins',
        load: async () => (await import('./commands/edge.ts')).edgeCommand,
      },
      secrets: {
        summary: 'Create the secrets of a deployment',
        load: async () => (await import('./commands/secrets.ts')).secretsCommand,
      },
      pull: {
        summary: 'Download a base model into the cache (GRAFT_CACHE)',
        load: async () => (await import('./commands/base.ts')).pullCommand,
      },
      base: {
        summary: 'Export the base for browsers, which then run it themselves',
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
        summary: "Show the adapters in the origins' memory",
        load: async () => (await import('./commands/origins.ts')).psCommand,
      },
      warm: {
        summary: 'Load a version where it will be served',
        load: async () => (await import('./commands/origins.ts')).warmCommand,
      },
      pin: {
        summary: "Keep a name’s adapters in the origins' memory",
        load: async () => (await import('./commands/origins.ts')).pinCommand,
      },
      unpin: {
        summary: "Unpin a name: its adapters may leave the origins' memory",
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
        summary: 'Convert an adapter to another format',
        load: async () => (await import('./commands/pack.ts')).convertCommand,
      },
      compose: {
        summary: 'Add several adapters into one',
        load: async () => (await import('./commands/compose.ts')).composeCommand,
      },
      diff: {
        summary: 'Compare two adapters, module by module',
        load: async () => (await import('./commands/inspect.ts')).diffCommand,
      },
      train: {
        summary: 'Train an adapter on rows, on this machine, and stage it',
        load: async () => (await import('./commands/train.ts')).trainCommand,
      },
      publish: {
        summary: 'Check, pack and upload an adapter, and make it live',
        load: async () => (await import('./commands/publish.ts')).publishCommand,
      },
      verify: {
        summary: 'Check a version at every origin, or check a local file',
        load: async () => (await import('./commands/verify.ts')).verifyCommand,
      },
      download: {
        summary: 'Download a published version',
        load: async () => (await import('./commands/download.ts')).downloadCommand,
      },
      compare: {
        summary: 'Compare the answers of two or more names to the same prompts',
        load: async () => (await import('./commands/compare.ts')).compareCommand,
      },
      eval: {
        summary: 'Keep rows with expected answers or a judge for a name, and score its versions on them',
        load: async () => (await import('./commands/eval.ts')).evalCommand,
      },
    },
  },
  {
    title: 'versions',
    commands: {
      versions: {
        summary: 'List the versions of a name, with their author and date',
        load: async () => (await import('./commands/versions.ts')).versionsCommand,
      },
      history: {
        summary: 'Show the changes of a name, or of all names',
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
        summary: 'Retire a version for good',
        load: async () => (await import('./commands/versions.ts')).retireCommand,
      },
      rm: {
        summary: 'Remove a name, or a version of it',
        load: async () => (await import('./commands/versions.ts')).rmCommand,
      },
      restore: {
        summary: 'Restore what was removed in the last seven days',
        load: async () => (await import('./commands/versions.ts')).restoreCommand,
      },
      erase: {
        summary: 'Erase names, or everything of a tenant, permanently',
        load: async () => (await import('./commands/erase.ts')).eraseCommand,
      },
      alias: {
        summary: 'Make a name an alias of another',
        load: async () => (await import('./commands/names.ts')).aliasCommand,
      },
      edit: {
        summary: "Change a name's description and tags",
        load: async () => (await import('./commands/names.ts')).editCommand,
      },
      strict: {
        summary: 'Stop a name from answering for missing names below it',
        load: async () => (await import('./commands/names.ts')).strictCommand,
      },
      repair: {
        summary: 'Repair KV from D1',
        load: async () => (await import('./commands/upkeep.ts')).repairCommand,
      },
      backup: {
        summary: 'Back up everything that a server keeps',
        load: async () => (await import('./commands/backup.ts')).backupCommand,
      },
      'restore-backup': {
        summary: 'Restore a backup into an empty server',
        load: async () => (await import('./commands/backup.ts')).restoreBackupCommand,
      },
      gc: {
        summary: 'Delete files that no version uses',
        load: async () => (await import('./commands/upkeep.ts')).gcCommand,
      },
    },
  },
  {
    title: 'experiments',
    commands: {
      improve: {
        summary:
          'Train the next version on what users and judges preferred, and test it against the live one',
        load: async () => (await import('./commands/improve.ts')).improveCommand,
      },
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
        summary: 'List, set, lift and reset limits of tenants',
        load: async () => (await import('./commands/limits.ts')).limitsCommand,
      },
      webhook: {
        summary: 'Have a URL told of budgets and origins',
        load: async () => (await import('./commands/webhook.ts')).webhookCommand,
      },
      grant: {
        summary: 'Let other tenants, or everybody, use your adapters',
        load: async () => (await import('./commands/grant.ts')).grantCommand,
      },
      reserve: {
        summary: 'Reserve a name and everything below it for a tenant',
        load: async () => (await import('./commands/names.ts')).reserveCommand,
      },
      rooms: {
        summary: 'List the prefixes reserved for tenants',
        load: async () => (await import('./commands/names.ts')).roomsCommand,
      },
      usage: {
        summary: 'Show token usage',
        load: async () => (await import('./commands/usage.ts')).usageCommand,
      },
      requests: {
        summary: 'List recent requests',
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
        summary: "Store a server's key for later commands",
        load: async () => (await import('./commands/account.ts')).loginCommand,
      },
      logout: {
        summary: "Forget a server's keys",
        load: async () => (await import('./commands/account.ts')).logoutCommand,
      },
      openapi: {
        summary: 'Print the OpenAPI document of the server',
        load: async () => (await import('./commands/account.ts')).openapiCommand,
      },
      completion: {
        summary: 'Print a shell completion script',
        load: async () => {
          const { completionCommand, help } = await import('./commands/completion.ts');
          return { default: completionCommand(() => COMMAND_GROUPS), help };
        },
      },
    },
  },
];

/** @returns undefined for an unknown verb. */
export function findCommand(verb: string): Command | undefined {
  const group = COMMAND_GROUPS.find(({ commands }) => Object.hasOwn(commands, verb));
  return group?.commands[verb];
}

export const commandNames = (): string[] => COMMAND_GROUPS.flatMap(({ commands }) => Object.keys(commands));
