const utf8 = new TextEncoder();

/** @returns bytes of the text in UTF-8. */
export const utf8Length = (text: string): number => utf8.encode(text).length;
