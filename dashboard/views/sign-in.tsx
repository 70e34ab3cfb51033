import { createClient } from '../api/client.ts';
import { KeyForm } from '../parts/key-form.tsx';

export function SignIn({ onKey }: { onKey: (key: string) => void }) {
  return (
    <main class="sign-in">
      <h1>graft</h1>
      <KeyForm
        label="Admin key"
        hint="It begins with ga_. It stays in this tab, until you sign out or close it."
        act="Sign in"
        onKey={async (key) => {
          const answer = await createClient(key).call('GET /admin/names', {});
          if (!answer.ok) return answer.error;
          onKey(key);
          return null;
        }}
      />
      <p class="hint">
        After <code>npm start</code> it is <code>adminKey</code> in <code>.graft/local.json</code>. Others
        come from <code>graft keys create --admin</code>.
      </p>
    </main>
  );
}
