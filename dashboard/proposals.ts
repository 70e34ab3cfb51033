import type { Client } from './api/client.ts';
import { openProposal } from './model/experiment-words.ts';
import { createStore } from './model/store.ts';

/** How many experiments have a proposed winner that waits for somebody. */
export const proposals = createStore(0);

/** Keeps the last number if the edge does not answer. */
export async function countProposals(client: Client): Promise<void> {
  const list = await client.call('GET /admin/experiments', {});
  if (list.ok) proposals.set(list.value.experiments.filter((one) => openProposal(one) !== null).length);
}
