/** @param params.page the dashboard, built already. @returns the tarballs, or the folders where none are wanted. */
export function makePackages(
  out: string,
  params?: { page?: string; tarballs?: boolean },
): Promise<{ light: string; stack: string }>;
