import { EraseAnswer } from '../../../protocol/admin-api/erasures.ts';

/** All pages of an erasure. @param ask requests one of them. @param begun a cursor. */
export async function erasePages(
  ask: (cursor: string | null) => Promise<unknown>,
  begun: string | null = null,
): Promise<EraseAnswer[]> {
  const pages: EraseAnswer[] = [];
  for (let cursor = begun; ;) {
    const page = EraseAnswer.parse(await ask(cursor));
    pages.push(page);
    if (page.cursor === null) return pages;
    ({ cursor } = page);
  }
}

export const erasedIn = (pages: readonly EraseAnswer[], what: keyof EraseAnswer['erased']): number =>
  pages.reduce((sum, { erased }) => sum + erased[what], 0);

/** Pages until one is refused. @returns its status; 200 if none is. */
export async function eraseUntilRefused(ask: (cursor: string | null) => Promise<Response>): Promise<number> {
  for (let cursor: string | null = null; ;) {
    const answer = await ask(cursor);
    if (answer.status !== 200) return answer.status;
    ({ cursor } = EraseAnswer.parse(await answer.json()));
    if (cursor === null) return 200;
  }
}
