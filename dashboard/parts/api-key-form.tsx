import { ModelList } from '../../protocol/completion-answers.ts';
import { createClient } from '../api/client.ts';
import { storeKey } from '../session.ts';
import { KeyForm } from './key-form.tsx';

/** Asks for the key that models are asked with, and keeps it. */
export function ApiKeyForm({ onKey }: { onKey: (key: string) => void }) {
  return (
    <KeyForm
      label="API key"
      hint="It begins with gk_; admin keys may not ask models. It stays in this tab, until you sign out or close it."
      act="Use it"
      onKey={async (given) => {
        const answer = await createClient(given).get('/v1/models', ModelList);
        if (!answer.ok) return answer.error;
        storeKey('api', given);
        onKey(given);
        return null;
      }}
    />
  );
}
