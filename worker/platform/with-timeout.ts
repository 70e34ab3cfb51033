/** @returns what `answer` gives. @throws Error when it takes longer than `ms`; it goes on, unheard. */
export async function withTimeout<T>(answer: Promise<T>, ms: number): Promise<T> {
  let give: (error: Error) => void = () => undefined;
  const late = new Promise<never>((_, reject) => (give = reject));
  const timer = setTimeout(() => give(new Error(`no answer within ${ms} ms`)), ms);
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
