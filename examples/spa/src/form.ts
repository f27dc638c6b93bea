import { OuviraError } from "@ouvira/client";
import { sentenceOf } from "./api.ts";
import { type Child, element } from "./element.ts";

/** One labelled input. Its name is the API's, so that what the API says of it can be shown at it. */
export interface Field<Name extends string> {
  readonly name: Name;
  readonly label: string;
  readonly hint?: string;
  readonly type?: "text" | "email" | "tel" | "password";
  readonly autocomplete?: AutoFill;
  /** For codes: digits on a phone's keyboard. */
  readonly isCode?: boolean;
  readonly isOptional?: boolean;
  /** Instead of a text: value → what is shown. */
  readonly choices?: ReadonlyMap<string, string>;
}

export interface FormOptions<Name extends string> {
  readonly fields: readonly Field<Name>[];
  /** What the button says. */
  readonly submit: string;
  /** A failure is shown, with the fields that it is about. */
  readonly onSubmit: (values: Readonly<Record<Name, string>>) => Promise<void>;
}

/** A form whose failures are told in words: at their fields where they have one, else above the button. */
export function form<Name extends string>({
  fields,
  submit,
  onSubmit,
}: FormOptions<Name>): HTMLFormElement {
  const inputs = fields.map((field) => ({ ...field, ...makeInput(field) }));
  const summary = element("p", { className: "notice failure", role: "alert", hidden: true });
  const submitButton = element("button", { type: "submit" }, submit);
  const made = element(
    "form",
    { noValidate: true },
    ...inputs.map(({ row }) => row),
    summary,
    submitButton,
  );

  function show(error: unknown): void {
    const errors = error instanceof OuviraError ? error.errors : {};
    const known = new Set<string>(fields.map(({ name }) => name));
    for (const { name, say } of inputs) say(errors[name]?.join(" ") ?? "");
    const others = Object.entries(errors).filter(([name]) => !known.has(name));
    const isAtFields = Object.keys(errors).length > others.length;
    summary.textContent = isAtFields
      ? others.flatMap(([, sentences]) => sentences).join(" ")
      : sentenceOf(error);
    summary.hidden = summary.textContent === "";
    inputs.find(({ name }) => errors[name])?.input.focus();
  }

  made.addEventListener("submit", (event) => {
    event.preventDefault();
    summary.hidden = true;
    for (const { say, input, isOptional = false } of inputs) {
      say(input.value === "" && !isOptional ? "This is needed." : "");
    }
    const invalid = inputs.find(({ input }) => input.ariaInvalid === "true");
    if (invalid) {
      invalid.input.focus();
      return;
    }
    submitButton.disabled = true;
    // One value for each name.
    const values = Object.fromEntries(
      inputs.map(({ name, input }) => [name, input.value]),
    ) as Record<Name, string>;
    void onSubmit(values)
      .catch(show)
      .finally(() => {
        submitButton.disabled = false;
      });
  });
  return made;
}

let fieldCount = 0;

function makeInput<Name extends string>({ name, label, hint, choices, ...field }: Field<Name>) {
  fieldCount += 1;
  const id = `field-${fieldCount}`;
  const complaint = element("p", { id: `${id}-error`, className: "complaint", hidden: true });
  const input = choices
    ? element(
        "select",
        { id, name },
        ...[...choices].map(([value, text]) => element("option", { value }, text)),
      )
    : element("input", {
        id,
        name,
        type: field.type ?? "text",
        autocomplete: field.autocomplete ?? (field.isCode ? "one-time-code" : "off"),
        inputMode: field.isCode ? "numeric" : "",
        spellcheck: false,
      });
  input.required = !(field.isOptional ?? false);
  input.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const children: readonly Child[] = [
    element("label", { htmlFor: id }, label),
    hint !== undefined && element("p", { id: `${id}-hint`, className: "hint" }, hint),
    input,
    complaint,
  ];
  return {
    input,
    row: element("div", { className: "field" }, ...children),
    /** Shows what is wrong with it; nothing with an empty text. */
    say: (text: string) => {
      complaint.textContent = text;
      complaint.hidden = text === "";
      input.ariaInvalid = text === "" ? "false" : "true";
    },
  };
}
