/** What the server wrote into the page it sent (index.html). */
function fact(name: string): string {
  return document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content ?? "";
}

/** Styles that components write into the page carry it, or the page's policy refuses them. */
export const STYLE_NONCE = fact("style-nonce");

/** Whether an operator without a second factor may do nothing but turn it on, as in production. */
export const IS_SECOND_FACTOR_COMPULSORY = fact("second-factor") !== "optional";
