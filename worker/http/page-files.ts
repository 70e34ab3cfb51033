/** Files that were built for this edge: one by its path, such as `/dashboard/index.html`; 404 for what is not there. */
export type PageFiles = (path: string) => Promise<Response>;
