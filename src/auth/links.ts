/** Where a link leads: the front end, and which tenant it is for. */
export interface LinkBase {
  /** FRONTEND_URL: nothing of a request has a say in where a link leads. */
  readonly frontendUrl: string;
  readonly subdomain: string;
}

/**
 * The address of a page of the front end with a one-time token. The token stands in the fragment,
 * which a browser sends to nobody: it is in no server's log and in no Referer (RFC 9110 §10.1.3).
 */
export function linkWithToken(
  { frontendUrl, subdomain }: LinkBase,
  page: "reset-password" | "verify-email" | "accept-invitation",
  token: string,
): string {
  return `${frontendUrl}/${page}?tenant=${encodeURIComponent(subdomain)}#token=${token}`;
}
