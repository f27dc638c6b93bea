import { ouvira } from "../api.ts";
import { button } from "../button.ts";
import { type Child, element, heading, link } from "../element.ts";
import { form } from "../form.ts";
import { go } from "../router.ts";

/** The caller's companies, and a form for another. */
export async function companiesPage(): Promise<readonly Child[]> {
  const list = element("ul", { className: "cards" });
  const more = element("div");

  async function load(page: number): Promise<void> {
    const query = { page, ordering: "name" } as const;
    const { count, next, results } = await ouvira.GET("/api/company/", { params: { query } });
    list.append(
      ...results.map(({ id, name, status }) =>
        element(
          "li",
          {},
          link(`/companies/${id}`, name),
          element("span", { className: "status" }, status),
        ),
      ),
    );
    if (count === 0)
      list.append(element("li", { className: "empty" }, "None yet: make one below."));
    more.replaceChildren(...(next === null ? [] : [button("Show more", () => load(page + 1))]));
  }
  await load(1);

  const create = form({
    fields: [{ name: "name", label: "Name of the company", autocomplete: "organization" }],
    submit: "Make a company",
    onSubmit: async (body) => {
      const { id } = await ouvira.POST("/api/company/", { body });
      go(`/companies/${id}`);
    },
  });
  return [heading("Companies"), list, more, element("h2", {}, "A new company"), create];
}
