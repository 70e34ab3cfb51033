import { useState } from 'preact/hooks';
import { callCode, LANGUAGES, type ChatBody, type Language } from '../model/call-code.ts';
import { CopyButton } from './copy-button.tsx';

/** A request as code, in one of several languages. */
export function CallIt({ body, label }: { body: ChatBody; label: string }) {
  const [language, setLanguage] = useState<Language>('curl');
  const code = callCode(language, location.origin, body);
  return (
    <section class="code" aria-label={label}>
      <div class="code-top">
        <div class="choices" role="group" aria-label="Language">
          {LANGUAGES.map((one) => (
            <button key={one} type="button" aria-pressed={one === language} onClick={() => setLanguage(one)}>
              {one}
            </button>
          ))}
        </div>
        <CopyButton text={code} what="the code" label="Copy" />
      </div>
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </section>
  );
}
