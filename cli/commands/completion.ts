import { defineCommand } from 'citty';
import type { CommandGroup, CommandHelp } from '../command-types.ts';
import { assertPlain, renderBash, renderFish, renderZsh } from '../completion/completion-scripts.ts';
import { didYouMean } from '../did-you-mean.ts';
import { usageError } from '../flags.ts';
import { describeGroups } from '../help/describe-command.ts';

const SHELLS = { bash: renderBash, zsh: renderZsh, fish: renderFish };

export const help: CommandHelp = {
  examples: [
    { line: 'source <(graft completion bash)', does: 'in ~/.bashrc' },
    { line: 'source <(graft completion zsh)', does: 'in ~/.zshrc, behind compinit' },
    {
      line: 'graft completion fish > ~/.config/fish/completions/graft.fish',
      does: 'once, and after updates',
    },
  ],
};

/** @param groups every command; given, because the list of them holds this command too. */
export const completionCommand = (groups: () => readonly CommandGroup[]) =>
  defineCommand({
    meta: { name: 'completion' },
    args: {
      shell: {
        type: 'positional',
        description: 'bash, zsh or fish',
        valueHint: Object.keys(SHELLS).join('|'),
        required: true,
      },
    },
    async run({ args }) {
      const render = Object.hasOwn(SHELLS, args.shell)
        ? SHELLS[args.shell as keyof typeof SHELLS]
        : undefined;
      if (render === undefined)
        throw usageError(
          `There is no completion for '${args.shell}': bash, zsh or fish.${didYouMean(args.shell, Object.keys(SHELLS))}`,
        );
      const commands = (await describeGroups(groups())).flatMap((group) => group.commands);
      assertPlain(commands);
      process.stdout.write(`${render(commands)}\n`);
    },
  });
