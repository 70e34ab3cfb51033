import { Check, Copy } from 'lucide';
import { useEffect, useState } from 'preact/hooks';
import { Icon } from './icon.tsx';
import { toast } from './toasts.tsx';

const SHOWN_MS = 2_000;

/** @param text what is copied. @param what how it is called, such as `the digest`. */
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
      // Browsers give the clipboard to pages of https and of this machine alone, and only with leave.
      toast('The browser does not let this page copy. Select the text and copy it by hand.');
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
