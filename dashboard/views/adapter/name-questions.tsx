/** What is asked before a name, or a version of it, changes, and the request that it is. */
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
      'Answers that run end as they began. Elsewhere in the world it takes about a minute.',
    act: forward ? 'Promote' : 'Roll back',
    danger: !forward,
    done: `${name} means version ${version} now.`,
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
    title: `Another name for ${target}`,
    text: `A new name that stands for ${target}: who asks for it gets the version that is live there.`,
    act: 'Make the alias',
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

/** @param target what it stands for now. */
export function repointQuestion(client: Client, name: string, target: string): Question {
  const chosen = { target };
  return {
    title: `What is ${name} to stand for?`,
    text: 'Requests by the alias go to the other name within about a minute.',
    act: 'Change it',
    done: `${name} stands for another name now.`,
    more: <TextField label="Name" begin={target} required onChange={(text) => (chosen.target = text)} />,
    run: async (why) => {
      const answer = await client.call('POST /admin/alias', { body: { name, target: chosen.target, why } });
      return answer.ok ? null : answer.error;
    },
  };
}

export const unaliasQuestion = (client: Client, name: string): Question => ({
  title: `Take the alias ${name} away?`,
  text: 'Requests by it are then answered by the nearest name above it, or not at all.',
  act: 'Take it away',
  danger: true,
  done: `${name} is no alias any more.`,
  run: async (why) => {
    const answer = await client.call('POST /admin/alias', { body: { name, target: null, why } });
    return answer.ok ? null : answer.error;
  },
});

const strictQuestion = (client: Client, name: string, strict: boolean): Question => ({
  title: strict ? `Make ${name} strict?` : `Make ${name} inheritable again?`,
  text: strict
    ? `A name below ${name} that does not exist is then answered by nothing: neither by ${name} nor by what is above it.`
    : `A name below ${name} that does not exist is then answered by ${name}, labelled as inherited.`,
  act: strict ? 'Make it strict' : 'Make it inheritable',
  done: strict ? `${name} is strict now.` : `${name} is inherited from again.`,
  run: async (why) => {
    const answer = await client.call('POST /admin/strict', { body: { name, strict, why } });
    return answer.ok ? null : answer.error;
  },
});

/** @param pin false = it is pinned, and is to be let go. */
const pinQuestion = (client: Client, name: string, pin: boolean): Question => ({
  title: pin ? `Pin ${name}?` : `Unpin ${name}?`,
  text: pin
    ? 'Every origin keeps its live version in memory, so that the first request does not wait for it.'
    : 'Origins may put its adapter out of memory when others need the room.',
  act: pin ? 'Pin it' : 'Unpin it',
  noReason: true,
  done: pin ? `${name} is pinned.` : `${name} is not pinned any more.`,
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
        ? 'All its versions go with it, and requests by it are answered by the nearest name above it, or not at all. For seven days it can be restored.'
        : 'It is served no more. For seven days it can be restored.',
    act: 'Remove',
    danger: true,
    done: `${what} is removed. For seven days it can be restored.`,
    more: (
      <CheckField
        label="Also what was made on top of it, and its aliases and pins"
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
        ? 'Its versions are there again, and the one that was live is live again.'
        : 'The version is there again, and not live.',
    act: 'Restore',
    done: `${what} is there again.`,
    more: (
      <CheckField
        label="Also all that was removed together with it"
        onChange={(cascade) => (chosen.cascade = cascade)}
      />
    ),
    run: async (why) => {
      const answer = await client.call('POST /admin/restore', { body: { name, version, why, ...chosen } });
      return answer.ok ? null : answer.error;
    },
  };
}

/** What can be done with a name as a whole. */
export function NameActs(props: {
  client: Client;
  name: string;
  strict: boolean;
  onAsk: (question: Question) => void;
}) {
  const { client, name, strict, onAsk } = props;
  // The operator's alone; whoever may not see pins may not set them.
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
