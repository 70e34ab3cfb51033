import type { CommandHelp } from '../command-types.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft experiment create support/intent @2 --start',
      does: 'half of the users get the live version, half version 2, from now on; says what will be found, and when',
    },
    {
      line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --metric thumbs:proportion:up --ramp 1%,5%,25%,100%',
      does: 'a draft with all of it said; `graft experiment start` begins with the first step of its ramp',
    },
    { line: 'graft experiment status support/intent --watch', does: 'how it goes, again every 5 seconds' },
    { line: 'graft experiment', does: 'all that are not archived' },
    {
      line: 'graft experiment kill support/intent',
      does: 'everybody gets the live version; --undo takes it back',
    },
    { line: 'graft experiment promote support/intent', does: 'the proposed winner becomes the live version' },
    {
      line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --judge medicine',
      does: 'version 4 answers beside, nobody gets its answers, and medicine says which are better',
    },
    {
      line: 'graft experiment show support/intent > experiment.json',
      does: 'the document, to be edited',
    },
    {
      line: 'graft experiment change support/intent --file experiment.json --dry-run',
      does: 'whether the edited document would be accepted',
    },
  ],
  notes: [
    'An experiment is attached to a name; applications go on asking for the name. It is called by its name, or by its id, which it keeps when the name has another one. `create` makes a draft, which `--start` starts at once, and prints a plan by the name’s own traffic: units a day, the share of them that rate, and how long it takes to find which lift. `start` puts it live, `ramp` goes to the next step at once, `stop` ends it without a winner, `promote` ends it with one, `archive` frees the name. The server looks at what is live each minute, takes a ramp’s next step and rolls back by itself, and only proposes a winner, which stands from then on; `evaluate` has it look now, and do what follows.',
    'A limit of a guardrail in percent is a share of control’s value: with `+50%` an error rate of 2 % may become 3 %; `+0.02` is in the metric’s own unit, so that it may become 4 %; `thumbs:-10%` is for a metric of which less is worse. Without `--guardrail`, errors, users who leave and the time to the first token are guarded. Shares are `5%` or `0.05`. What flags cannot say (namespace, holdout, targeting by header) is said in a file. docs/experiments.md says what is computed and what may change while an experiment is live.',
    '`--judge` compares control’s answers with the shadow’s, the last variant’s unless `--shadow` names one, for a fifth of the requests unless it says another share. No `user` and no feedback is needed. A model is asked in both orders; where these disagree it is a tie. A URL is called with prompt and answers and answers `{"choice": "a"}`, `"b"` or `"tie"`; `secret` prints what it checks the signature with. `pairs` prints those that `--keep-pairs` kept, to the tenant that owns the name alone.',
    '`status` shows intervals that hold at every look. While the sample ratio alarms there are none. They are drawn with lines where the locale is UTF-8, and in ASCII with `NO_COLOR` or elsewhere.',
  ],
};
