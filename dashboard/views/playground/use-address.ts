import { useEffect, useRef } from 'preact/hooks';

/** Twice a second at most: browsers take no more than 100 changes of the address in 10 to 30 s, Safari by an exception. */
const EVERY_MS = 500;

/** Keeps what is set in the view's address. @param hash such as `#/playground?left=medicine`. */
export function useAddress(hash: string): void {
  const written = useRef(0);
  useEffect(() => {
    const [view] = hash.split('?');
    const write = () => {
      written.current = Date.now();
      if (location.hash.split('?')[0] === view) history.replaceState(null, '', hash);
    };
    const wait = written.current + EVERY_MS - Date.now();
    if (wait <= 0) return write();
    const timer = setTimeout(write, wait);
    return () => clearTimeout(timer);
  }, [hash]);
}
