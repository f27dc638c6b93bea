/**
 * What the code asks for, declared once: routes name these codes as their guard, a tenant's catalogue
 * of permissions is seeded from them, and the documents list them. Codes are stored in every tenant:
 * add, never rename. A new one comes with a tenant migration that repeats the seed's `insert` of
 * `{{built_in_permissions}}`.
 */
export const PERMISSIONS = {
  "company.update": { module: "company", description: "Change the company and its logo." },
  "company.settings": { module: "company", description: "Change the company's settings." },
  "roles.manage": {
    module: "access-control",
    description: "Make the company's own roles and say what they allow.",
  },
  "members.view": { module: "access-control", description: "See who belongs to the company." },
  "members.manage": {
    module: "access-control",
    description: "Add, change and remove members and their roles.",
  },
  "invitations.manage": {
    module: "access-control",
    description: "Invite people to the company by e-mail.",
  },
  "audit.view": { module: "audit", description: "See what was changed in the company." },
} as const satisfies Record<string, { module: string; description: string }>;

/** The code of a built-in permission. */
export type PermissionCode = keyof typeof PERMISSIONS;

/** Every code, in the order of the catalogue. */
export const PERMISSION_CODES: readonly string[] = Object.keys(PERMISSIONS);

/** The built-in permissions as rows of SQL (code, module, description, true), for their seed. */
export function builtInPermissionRows(): string {
  const quote = (text: string) => `'${text.replaceAll("'", "''")}'`;
  return Object.entries(PERMISSIONS)
    .map(
      ([code, { module, description }]) =>
        `(${[code, module, description].map(quote).join(", ")}, true)`,
    )
    .join(",\n  ");
}
