/** What can stand in an element. Text is shown as text: data never becomes HTML. */
export type Child = Node | string | false | undefined;

/** An element with properties as the DOM names them. */
export function element<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Partial<HTMLElementTagNameMap[Tag]> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[Tag] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter(isShown));
  return made;
}

/** The heading of a page, which gets the focus when the page is shown. */
export function heading(text: string): HTMLHeadingElement {
  return element("h1", { tabIndex: -1 }, text);
}

/** A sentence that screen readers say at once. */
export function notice(text: string, kind: "success" | "failure" = "success"): HTMLElement {
  return element("p", { className: `notice ${kind}`, role: "status" }, text);
}

/** A link to another page of this application. */
export function link(href: string, text: string): HTMLAnchorElement {
  return element("a", { href }, text);
}

/** Replaces what stands in an element. */
export function fill(parent: HTMLElement, ...children: readonly Child[]): void {
  parent.replaceChildren(...children.filter(isShown));
}

/** The same for the next step of a form: the keyboard goes on in its first input. */
export function showStep(step: HTMLElement, ...children: readonly Child[]): void {
  fill(step, ...children);
  step.querySelector("input")?.focus();
}

function isShown(child: Child): child is Node | string {
  return child !== false && child !== undefined;
}
