import { Check, Copy } from 'lucide';
import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { callCode, type ChatBody, classifyCode, type Language, LANGUAGES } from '../model/call-code.ts';
import { Icon } from './icon.tsx';
import { toast } from './notes.tsx';

const SHOWN_MS = 2_000;

/** @param text to copy. @param what its label, such as `the digest`. */
export function CopyButton({ text, what, label }: { text: string; what: string; label?: string }) {
  const [copied, setCopied] = useState(false);
  useEffect(() => {
    if (!copied) return;
    const timer = setTimeout(() => setCopied(false), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      // Browsers allow the clipboard only on https and localhost, and only with permission.
      toast('The browser does not let this page copy. Select and copy the text by hand.');
    }
  };
  return (
    <button
      type="button"
      class={label === undefined ? 'bare' : 'small'}
      aria-label={`Copy ${what}`}
      title={`Copy ${what}`}
      onClick={() => void copy()}
    >
      <Icon of={copied ? Check : Copy} />
      {label !== undefined && <span>{copied ? 'Copied' : label}</span>}
    </button>
  );
}

/** A request as code, in one of several languages. */
export function CallIt({ body, label }: { body: ChatBody; label: string }) {
  const [language, setLanguage] = useState<Language>('curl');
  return (
    <Code label={label} code={callCode(language, location.origin, body)}>
      <div class="choices" role="group" aria-label="Language">
        {LANGUAGES.map((one) => (
          <button key={one} type="button" aria-pressed={one === language} onClick={() => setLanguage(one)}>
            {one}
          </button>
        ))}
      </div>
    </Code>
  );
}

/** A request to a classification head, for the shell. */
export const ClassifyIt = ({ model, classes, label }: { model: string; classes: number; label: string }) => (
  <Code label={label} code={classifyCode(location.origin, model, classes)}>
    <span class="hint">curl</span>
  </Code>
);

function Code({ label, code, children }: { label: string; code: string; children: ComponentChildren }) {
  return (
    <section class="code" aria-label={label}>
      <div class="code-top">
        {children}
        <CopyButton text={code} what="the code" label="Copy" />
      </div>
      <pre tabIndex={0}>
        <code>{code}</code>
      </pre>
    </section>
  );
}

/** Shows a secret, to be copied. @param props.what it is, as `CopyButton` says it. @param props.close words of the button. */
export function SecretNote(props: {
  label: string;
  secret: string;
  what: string;
  close: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const note = useRef<HTMLElement>(null);
  // It may be far above the row that it belongs to: scroll it into view, and have it read aloud.
  useEffect(() => note.current?.focus(), [props.secret]);
  return (
    <section ref={note} tabIndex={-1} class="note good secret" aria-label={props.label}>
      <p>{props.children}</p>
      <div class="joined">
        <code>{props.secret}</code>
        <CopyButton text={props.secret} what={props.what} label="Copy" />
      </div>
      <button type="button" class="small" onClick={props.onClose}>
        {props.close}
      </button>
    </section>
  );
}
