import { Link, Pin, PinOff, ShieldCheck, ShieldOff, Trash2 } from 'lucide';
import type { Client } from '../../api/client.ts';
import type { Question } from '../../parts/confirm.tsx';
import { Icon } from '../../parts/icon.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { aliasQuestion, pinQuestion, removeQuestion, strictQuestion } from './name-questions.tsx';

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
