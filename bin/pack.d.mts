/** @param params.page the dashboard, built already. @returns the tarballs. */
export function makePackages(out: string, params?: { page?: string }): Promise<{ light: string; stack: string }>;
