import type { KeyView, QueryOf, RevocationView } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import type { Output } from '../output.ts';
import { keyTable } from './key-table.ts';

interface Revocation {
  id: string;
  /** Also the keys that it and its successors made. */
  made: boolean;
  /** The key alone. */
  only: boolean;
  /** Also what is kept of what they asked. */
  forgetPrompts: boolean;
}

/** Revokes a key and says what ended with it. */
export async function revokeKey(client: ApiClient, output: Output, wanted: Revocation): Promise<void> {
  const { id, made, only, forgetPrompts } = wanted;
  const told = await send(client, wanted);
  const others = told.revoked.filter((key) => key.id !== id);
  output.result(
    {
      ...{ id, revoked: true },
      also: others.map((key) => key.id),
      made: told.made.map((key) => key.id),
    },
    () => {
      const also = others.length === 0 ? '' : `, and with it ${others.map((key) => key.id).join(', ')}`;
      const kept = forgetPrompts ? ', and what was kept of its prompts is deleted' : '';
      return `${id} is revoked${also}${kept}; elsewhere that is seen within about a minute`;
    },
  );
  if (only || made || told.made.length === 0) return;
  output.note(keyTable(told.made, Date.now()));
  output.note(
    `${told.moreMade ? 'These and more' : 'These'} were made by ${others.length === 0 ? 'it' : 'them'} and are ` +
      `still good. To revoke them too: graft keys revoke ${id} --made`,
  );
}

interface Told {
  revoked: KeyView[];
  made: KeyView[];
  moreMade: boolean;
}

/** All pages. An edge from before says nothing, and has revoked the key alone. */
async function send(client: ApiClient, { id, made, only, forgetPrompts }: Revocation): Promise<Told> {
  const revoked: KeyView[] = [];
  for (let cursor: string | null = null; ;) {
    const query: QueryOf<'DELETE /admin/keys/:id'> = {
      report: 'true',
      ...(made ? { made: 'true' } : {}),
      ...(only ? { successors: 'false' } : {}),
      ...(forgetPrompts ? { forget_prompts: 'true' } : {}),
      cursor,
    };
    const call = { params: { id }, query };
    const page: RevocationView | null = await callOperation(
      client,
      `revoke ${id}`,
      'DELETE /admin/keys/:id',
      call,
    );
    if (page === null) return { revoked, made: [], moreMade: false };
    revoked.push(...page.revoked);
    if (page.cursor === null) return { revoked, made: page.made, moreMade: page.more_made };
    cursor = page.cursor;
  }
}
