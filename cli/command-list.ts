/** Every command of `graft`, in the groups and the order of `graft --help`; help, completion and docs/cli.md read it. */
import type { CommandGroup, CommandModule } from './command-types.ts';

/** Another word for a command. */
const alias = (name: string, verb: string, { default: command }: CommandModule): CommandModule => ({
  default: { ...command, meta: { name, description: `The same as \`graft ${verb}\`` } },
});

export const COMMAND_GROUPS: readonly CommandGroup[] = [
  {
    title: 'serve',
    commands: {
      dev: () => import('./commands/dev.ts'),
      secrets: () => import('./commands/secrets.ts'),
      pull: () => import('./commands/pull.ts'),
      run: () => import('./commands/run.ts'),
      ls: () => import('./commands/ls.ts'),
      ps: () => import('./commands/ps.ts'),
      capacity: () => import('./commands/capacity.ts'),
      warm: () => import('./commands/warm.ts'),
      pin: () => import('./commands/pin.ts'),
      unpin: () => import('./commands/unpin.ts'),
    },
  },
  {
    title: 'adapters',
    commands: {
      show: () => import('./commands/show.ts'),
      pack: () => import('./commands/pack.ts'),
      convert: () => import('./commands/convert.ts'),
      compose: () => import('./commands/compose.ts'),
      diff: () => import('./commands/diff.ts'),
      publish: () => import('./commands/publish.ts'),
      verify: () => import('./commands/verify.ts'),
      download: () => import('./commands/download.ts'),
      compare: () => import('./commands/compare.ts'),
    },
  },
  {
    title: 'versions',
    commands: {
      versions: () => import('./commands/versions.ts'),
      history: () => import('./commands/history.ts'),
      log: async () => alias('log', 'history', await import('./commands/history.ts')),
      promote: () => import('./commands/promote.ts'),
      rollback: () => import('./commands/rollback.ts'),
      retire: () => import('./commands/retire.ts'),
      rm: () => import('./commands/rm.ts'),
      restore: () => import('./commands/restore.ts'),
      alias: () => import('./commands/alias.ts'),
      strict: () => import('./commands/strict.ts'),
      repair: () => import('./commands/repair.ts'),
      gc: () => import('./commands/gc.ts'),
    },
  },
  {
    title: 'experiments',
    commands: {
      experiment: () => import('./commands/experiment.ts'),
    },
  },
  {
    title: 'tenants',
    commands: {
      keys: () => import('./commands/keys.ts'),
      limits: () => import('./commands/limits.ts'),
      grant: () => import('./commands/grant.ts'),
      reserve: () => import('./commands/reserve.ts'),
      rooms: () => import('./commands/rooms.ts'),
      usage: () => import('./commands/usage.ts'),
    },
  },
  {
    title: 'account',
    commands: {
      login: () => import('./commands/login.ts'),
      logout: () => import('./commands/logout.ts'),
      openapi: () => import('./commands/openapi.ts'),
      completion: async () => {
        const { completionCommand, help } = await import('./commands/completion.ts');
        return { default: completionCommand(() => COMMAND_GROUPS), help };
      },
    },
  },
];

/** @returns the loader of a verb's module, or undefined. */
export function findCommand(verb: string): (() => Promise<CommandModule>) | undefined {
  const group = COMMAND_GROUPS.find(({ commands }) => Object.hasOwn(commands, verb));
  return group?.commands[verb];
}

export const commandNames = (): string[] => COMMAND_GROUPS.flatMap(({ commands }) => Object.keys(commands));
