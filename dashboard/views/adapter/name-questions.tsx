/** Confirmation dialogs for changes of a name or version, and their requests. */
import { Link, Pin, PinOff, ShieldCheck, ShieldOff, Trash2 } from 'lucide';
import type { VersionView } from '../../../protocol/admin-api/versions.ts';
import type { Client } from '../../api/client.ts';
import type { Question } from '../../parts/dialog.tsx';
import { CheckField, TextField } from '../../parts/fields.tsx';
import { Icon } from '../../parts/icon.tsx';
import { useLoad } from '../../parts/hooks.ts';

/** @param live version; null = none. @param again it was live before, and rolled back. */
export function flipQuestion(client: Client, { name, version }: VersionView, live: number | null): Question {
  const forward = live === null || version > live;
  return {
    title: forward ? `Promote ${name}@${version}?` : `Roll back to ${name}@${version}?`,
    text:
      `From now on ${name} means version ${version}${live === null ? '' : ` instead of ${live}`}. ` +
      'Running answers are not affected. Elsewhere in the world this takes about a minute.',
    act: forward ? 'Promote' : 'Roll back',
    danger: !forward,
    done: `${name} now means version ${version}.`,
    run: async (why) => {
      const about = { name, expect: live ?? 0, why };
      const answer = forward
        ? await client.call('POST /admin/promote', { body: { ...about, version } })
        : await client.call('POST /admin/rollback', { body: { ...about, to: version } });
      return answer.ok ? null : answer.error;
    },
  };
}

function aliasQuestion(client: Client, target: string): Question {
  const chosen = { name: '' };
  return {
    title: `Create an alias of ${target}`,
    text: `A new name that stands for ${target}: requests for it get the version that is live there.`,
    act: 'Create the alias',
    done: `The alias stands for ${target}.`,
    more: (
      <TextField
        label="The new name"
        placeholder="team/best"
        required
        onChange={(name) => (chosen.name = name)}
      />
    ),
    run: async (why) => {
      const answer = await client.call('POST /admin/alias', { body: { name: chosen.name, target, why } });
      return answer.ok ? null : answer.error;
    },
  };
}

/** @param target its current target. */
export function repointQuestion(client: Client, name: string, target: string): Question {
  const chosen = { target };
  return {
    title: `What should ${name} stand for?`,
    text: 'Within about a minute, requests for the alias go to the new target.',
    act: 'Change it',
    done: `${name} has a new target.`,
    more: <TextField label="Name" begin={target} required onChange={(text) => (chosen.target = text)} />,
    run: async (why) => {
      const answer = await client.call('POST /admin/alias', { body: { name, target: chosen.target, why } });
      return answer.ok ? null : answer.error;
    },
  };
}

export const unaliasQuestion = (client: Client, name: string): Question => ({
  title: `Remove the alias ${name}?`,
  text: 'The nearest name above it then answers requests for it, if there is one.',
  act: 'Remove it',
  danger: true,
  done: `${name} is no longer an alias.`,
  run: async (why) => {
    const answer = await client.call('POST /admin/alias', { body: { name, target: null, why } });
    return answer.ok ? null : answer.error;
  },
});

const strictQuestion = (client: Client, name: string, strict: boolean): Question => ({
  title: strict ? `Make ${name} strict?` : `Make ${name} inheritable again?`,
  text: strict
    ? `Requests for missing names below ${name} then get no answer, neither from ${name} nor from a name ` +
      'above it.'
    : `${name} then answers requests for missing names below it, marked as inherited.`,
  act: strict ? 'Make it strict' : 'Make it inheritable',
  done: strict ? `${name} is strict now.` : `${name} is inheritable again.`,
  run: async (why) => {
    const answer = await client.call('POST /admin/strict', { body: { name, strict, why } });
    return answer.ok ? null : answer.error;
  },
});

/** @param pin false = unpin it. */
const pinQuestion = (client: Client, name: string, pin: boolean): Question => ({
  title: pin ? `Pin ${name}?` : `Unpin ${name}?`,
  text: pin
    ? 'Every origin keeps its live version in memory, so that the first request need not wait for it.'
    : 'Origins may unload its adapter when they need the memory.',
  act: pin ? 'Pin it' : 'Unpin it',
  noReason: true,
  done: pin ? `${name} is pinned.` : `${name} is no longer pinned.`,
  run: async () => {
    const answer = pin
      ? await client.call('POST /admin/pins', { body: { name } })
      : await client.call('DELETE /admin/pins', { query: { name } });
    return answer.ok ? null : answer.error;
  },
});

/** @param version null = the whole name. */
export function removeQuestion(client: Client, name: string, version: number | null): Question {
  const what = version === null ? name : `${name}@${version}`;
  const chosen = { cascade: false };
  return {
    title: `Remove ${what}?`,
    text:
      version === null
        ? 'All its versions are removed with it, and the nearest name above it answers requests for it, ' +
          'if there is one. You can restore it for seven days.'
        : 'It is no longer served. You can restore it for seven days.',
    act: 'Remove',
    danger: true,
    done: `${what} is removed. You can restore it for seven days.`,
    more: (
      <CheckField
        label="Also what was built on it, its aliases and its pins"
        onChange={(cascade) => (chosen.cascade = cascade)}
      />
    ),
    run: async (why) => {
      const answer = await client.call('POST /admin/remove', { body: { name, version, why, ...chosen } });
      return answer.ok ? null : answer.error;
    },
  };
}

export function restoreQuestion(client: Client, name: string, version: number | null): Question {
  const what = version === null ? name : `${name}@${version}`;
  const chosen = { cascade: false };
  return {
    title: `Restore ${what}?`,
    text:
      version === null
        ? 'Its versions come back, and the live one is live again.'
        : 'The version comes back, but is not live.',
    act: 'Restore',
    done: `${what} is restored.`,
    more: (
      <CheckField
        label="Also everything that was removed with it"
        onChange={(cascade) => (chosen.cascade = cascade)}
      />
    ),
    run: async (why) => {
      const answer = await client.call('POST /admin/restore', { body: { name, version, why, ...chosen } });
      return answer.ok ? null : answer.error;
    },
  };
}

/** The actions on a whole name. */
export function NameActs(props: {
  client: Client;
  name: string;
  strict: boolean;
  onAsk: (question: Question) => void;
}) {
  const { client, name, strict, onAsk } = props;
  // Only for the operator: other keys may neither see nor set pins.
  const pins = useLoad('pins', () => client.call('GET /admin/pins', {}));
  const pinned = pins.data?.pins.some((pin) => pin.name === name) ?? null;
  const ask = async (question: Question) =>
    onAsk({
      ...question,
      run: async (why) => {
        const problem = await question.run(why);
        void pins.reload();
        return problem;
      },
    });
  return (
    <>
      <button type="button" onClick={() => void ask(aliasQuestion(client, name))}>
        <Icon of={Link} />
        Alias
      </button>
      {pinned !== null && (
        <button type="button" onClick={() => void ask(pinQuestion(client, name, !pinned))}>
          <Icon of={pinned ? PinOff : Pin} />
          {pinned ? 'Unpin' : 'Pin'}
        </button>
      )}
      <button type="button" onClick={() => void ask(strictQuestion(client, name, !strict))}>
        <Icon of={strict ? ShieldOff : ShieldCheck} />
        {strict ? 'Not strict' : 'Strict'}
      </button>
      <button type="button" class="danger" onClick={() => void ask(removeQuestion(client, name, null))}>
        <Icon of={Trash2} />
        Remove
      </button>
    </>
  );
}
