import { sentenceOf } from "./api.ts";
import { element, notice } from "./element.ts";

/** A button that cannot be pressed again before its work is done; a failure is told below it. */
export function button(
  text: string,
  work: () => Promise<void>,
  className = "secondary",
): HTMLButtonElement {
  const made = element("button", { type: "button", className }, text);
  let failure: HTMLElement | undefined;
  made.addEventListener("click", () => {
    made.disabled = true;
    failure?.remove();
    void work()
      .catch((error: unknown) => {
        failure = notice(sentenceOf(error), "failure");
        made.after(failure);
      })
      .finally(() => {
        made.disabled = false;
      });
  });
  return made;
}
