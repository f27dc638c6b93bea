import { sentenceOf } from "./api.ts";
import { type Child, element, fill, heading, notice } from "./element.ts";

/** What a page shows. The number is the one in its address, if there is one. */
export type Page = (id: number) => Promise<readonly Child[]>;

export interface Route {
  readonly path: RegExp;
  readonly page: Page;
}

interface Router {
  readonly routes: readonly Route[];
  readonly main: HTMLElement;
  /** Brings up to date what is around the page. */
  readonly showHeader: () => Promise<void>;
}

let router: Router | undefined;

/** Shows the page of the address, now and whenever a link, a button or the browser leads elsewhere. */
export function startRouter(started: Router): void {
  router = started;
  window.addEventListener("popstate", () => void show());
  document.addEventListener("click", (event) => {
    const target = event.target instanceof Element ? event.target.closest("a") : null;
    const isPlain = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey;
    if (!target || !isPlain || target.target !== "" || target.origin !== location.origin) return;
    event.preventDefault();
    go(target.pathname);
  });
  void show();
}

/** Leads to another page. */
export function go(path: string): void {
  history.pushState(null, "", path);
  void show();
}

/** How many pages were begun: one that loads slowly must not replace a later one. */
let begun = 0;

async function show(): Promise<void> {
  if (!router) return;
  begun += 1;
  const mine = begun;
  const children = await load(router);
  if (mine !== begun) return;
  await router.showHeader();
  fill(router.main, ...children);
  const title = router.main.querySelector("h1");
  document.title = `${title?.textContent ?? ""} · Ouvira example`;
  window.scrollTo(0, 0);
  title?.focus();
}

async function load({ routes }: Router): Promise<readonly Child[]> {
  const path = location.pathname;
  const route = routes.find((one) => one.path.test(path));
  if (!route) return [heading("There is no such page"), element("a", { href: "/" }, "Begin")];
  try {
    return await route.page(Number(route.path.exec(path)?.[1] ?? 0));
  } catch (error) {
    return [heading("This page could not be shown"), notice(sentenceOf(error), "failure")];
  }
}
