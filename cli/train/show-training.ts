/** What a training shows while it runs: notes, one bar on a terminal, and lines where there is none. */
import type { TrainingEvent } from '../../protocol/training.ts';
import type { OriginEvent } from '../local/origin-process.ts';
import { originProgress } from '../local/origin-process.ts';
import type { Output, Progress } from '../output.ts';
import { lossText } from './loss-curve.ts';

type EventOf<Name extends TrainingEvent['event']> = Extract<TrainingEvent, { event: Name }>;

const MINUTE = 60;
/** Below, a time is told in seconds. */
const SHORT = 100;

/** @returns such as `40 s`, `4 min`, `2 h 10 min`. */
export function timeText(seconds: number): string {
  if (seconds < SHORT) return `${Math.round(seconds)} s`;
  if (seconds < SHORT * MINUTE) return `${Math.round(seconds / MINUTE)} min`;
  const minutes = Math.round(seconds / MINUTE);
  return `${Math.floor(minutes / MINUTE)} h ${minutes % MINUTE} min`;
}

const GB = 1e9;
const count = (value: number): string => value.toLocaleString('en-US');
/** Such as 2.44M. */
const compact = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });

export function rowsText(event: EventOf<'rows'>, maxLength: number): string {
  const { trained, held_out: heldOut, left_out: leftOut, longest, tokens } = event;
  const parts = [
    `${count(trained)} ${trained === 1 ? 'row' : 'rows'} to train on (${count(tokens)} tokens, the longest ${count(longest)})`,
    ...(heldOut === 0 ? [] : [`${count(heldOut)} held out`]),
    ...(leftOut === 0
      ? []
      : [`${count(leftOut)} left out: too long for --max-length ${maxLength}, or without an answer`]),
  ];
  return parts.join(', ');
}

export function planText(event: EventOf<'plan'>): string {
  const { steps, done, parameters, seconds, seconds_per_step: each, memory_bytes: memory, recompute } = event;
  const left =
    done === 0 ? `${count(steps)} steps` : `continuing after step ${count(done)} of ${count(steps)}`;
  const step = each < 1 ? each.toFixed(2) : each.toFixed(1);
  return [
    `${left}, about ${timeText(seconds)} (${step} s a step)`,
    `${(memory / GB).toFixed(1)} GB memory${recompute ? ', saved by computing layers twice' : ''}`,
    `${compact.format(parameters)} numbers to train`,
  ].join(', ');
}

type HeldOut = EventOf<'held_out'>;

const heldOutText = ({ loss, exact, rows }: HeldOut): string =>
  `held out ${lossText(loss)}${exact === null ? '' : ` (${exact} of ${rows} exact)`}`;

/** The important parts first: a narrow terminal cuts the end. */
function stepText(event: EventOf<'step'>, heldOut: HeldOut | null, isShort: boolean): string {
  const said =
    heldOut === null ? [] : [isShort ? `held out ${lossText(heldOut.loss)}` : heldOutText(heldOut)];
  return [
    `loss ${lossText(event.loss)}`,
    ...said,
    `${timeText(event.seconds_left)} left`,
    `${count(Math.round(event.tokens_per_second))} tok/s`,
  ].join(', ');
}

/** Lines of a training without held-out rows, where there is no terminal. */
const LINES = 10;

interface TrainingProgress {
  hear(event: TrainingEvent): void;
  /** Events of the preparation. */
  hearOther(event: OriginEvent): void;
  /** Removes the bar. */
  end(): void;
}

/** @param maxLength of the settings, for rows that are too long. */
export function trainingProgress(output: Output, maxLength: number): TrainingProgress {
  const preparation = originProgress(output);
  let bar: Progress | null = null;
  let step: EventOf<'step'> | null = null;
  let heldOut: HeldOut | null = null;
  let hasHeldOut = false;
  let told = 0;
  const end = (): void => {
    preparation.end();
    bar?.end();
    bar = null;
  };
  const draw = (): void => {
    if (step === null) return;
    bar ??= output.progress('step', 'steps');
    bar.update(step.step, step.steps, stepText(step, heldOut, true));
  };
  /** Without a terminal. */
  const tell = (): void => {
    if (step === null || output.terminal) return;
    output.note(`step ${step.step} of ${step.steps}: ${stepText(step, heldOut, false)}`);
  };
  return {
    hear(event) {
      preparation.end();
      if (event.event === 'rows') {
        hasHeldOut = event.held_out > 0;
        output.note(rowsText(event, maxLength));
      } else if (event.event === 'plan') output.note(planText(event));
      else if (event.event === 'step') {
        step = event;
        draw();
        const part = Math.floor((LINES * event.step) / event.steps);
        if (!hasHeldOut && part > told) tell();
        told = part;
      } else if (event.event === 'held_out') {
        heldOut = event;
        if (step === null)
          output.note(`${event.step === 0 ? 'before training' : 'so far'}: ${heldOutText(event)}`);
        else if (output.terminal) draw();
        else tell();
      }
    },
    hearOther: preparation.hear,
    end,
  };
}
