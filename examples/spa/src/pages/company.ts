import { ouvira } from "../api.ts";
import { button } from "../button.ts";
import { type Child, element, fill, heading, link, notice } from "../element.ts";
import { form } from "../form.ts";
import { outboxHint } from "../outbox-hint.ts";

/** A company, and its invitations for those who may invite. */
export async function companyPage(id: number): Promise<readonly Child[]> {
  const [company, { permissions }] = await Promise.all([
    ouvira.GET("/api/company/{id}/", { params: { path: { id } } }),
    ouvira.GET("/api/access-control/my-permissions/", { params: { query: { company: id } } }),
  ]);
  // What is shown is a courtesy: the API asks again, whatever a page shows.
  const isInviting = permissions.includes("invitations.manage");
  return [
    element("p", {}, link("/", "← Companies")),
    heading(company.name),
    element("p", {}, "Status: ", element("span", { className: "status" }, company.status)),
    ...(isInviting
      ? await invitations(id)
      : [element("p", {}, "You belong to this company. Inviting is up to its admins.")]),
  ];
}

async function invitations(company: number): Promise<readonly Child[]> {
  const answers = element("div");
  const list = element("ul", { className: "cards" });
  const revoking = (id: number, email: string) => {
    const made = button("Revoke", () => revoke(id, email));
    made.ariaLabel = `Revoke the invitation of ${email}`;
    return made;
  };

  async function showPending(): Promise<void> {
    const query = { company, status: "pending" } as const;
    const { results } = await ouvira.GET("/api/access-control/invitations/", { params: { query } });
    list.replaceChildren(
      ...results.map(({ id, email, expires_at }) =>
        element(
          "li",
          {},
          element("span", {}, email),
          element("span", { className: "hint" }, `until ${inWords(expires_at)}`),
          revoking(id, email),
        ),
      ),
    );
    if (results.length === 0) list.append(element("li", { className: "empty" }, "None."));
  }

  async function revoke(id: number, email: string): Promise<void> {
    await ouvira.POST("/api/access-control/invitations/{id}/revoke/", { params: { path: { id } } });
    answers.replaceChildren(notice(`The invitation of ${email} works no more.`));
    await showPending();
  }

  const { results: roles } = await ouvira.GET("/api/access-control/roles/", {
    params: { query: { company, page_size: 100 } },
  });
  const invite = form({
    fields: [
      { name: "email", label: "E-mail address of a colleague", type: "email" },
      {
        name: "role",
        label: "Role",
        choices: new Map([
          ["", "Choose one"],
          ...roles.map(({ id, role }) => [String(id), role] as const),
        ]),
      },
    ],
    submit: "Invite",
    onSubmit: async ({ email, role }) => {
      await ouvira.POST("/api/access-control/invitations/", {
        body: { email, company, role: Number(role) },
      });
      fill(answers, notice(`${email} is invited.`), outboxHint());
      await showPending();
      invite.reset();
    },
  });
  await showPending();
  return [
    element("h2", {}, "Invite a colleague"),
    invite,
    answers,
    element("h2", {}, "Pending invitations"),
    list,
  ];
}

function inWords(time: string): string {
  return new Date(time).toLocaleDateString(undefined, { dateStyle: "medium" });
}
