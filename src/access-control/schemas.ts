import { z } from "zod";
import { Email, Token } from "../auth/schemas.ts";
import { ListQuery, pageOf, Search } from "../plugins/lists.ts";
import { FilterId, Id, Line, Paragraphs, RecordFields, RowId } from "../plugins/fields.ts";

// Permissions

const permissionFields = {
  code: z
    .string()
    .regex(
      /^[a-z][a-z0-9_.-]{0,99}$/,
      "Lower-case letters, digits, dots, dashes and underscores, at most 100.",
    )
    .meta({ description: "What applications ask for.", examples: ["reports.export"] }),
  module: Line(100).meta({ description: "What it belongs to.", examples: ["reports"] }),
};
const permissionDescription = Paragraphs(1_000).meta({ examples: ["Export reports as CSV."] });

export const Permission = z
  .object({
    id: RowId,
    code: z.string().meta({ examples: ["reports.export"] }),
    module: z.string().meta({ examples: ["reports"] }),
    description: z.string().meta({ examples: ["Export reports as CSV."] }),
    is_built_in: z
      .boolean()
      .meta({ description: "Asked for by this service; cannot be changed.", examples: [false] }),
    ...RecordFields,
  })
  .meta({ id: "Permission", description: "What can be allowed or denied." });
export type Permission = z.infer<typeof Permission>;

export const NewPermission = z
  .strictObject({ ...permissionFields, description: permissionDescription.default("") })
  .meta({ id: "NewPermission" });
export type NewPermission = z.infer<typeof NewPermission>;

export const PermissionReplacement = z
  .strictObject({ ...permissionFields, description: permissionDescription })
  .meta({ id: "PermissionReplacement" });
export const PermissionChange = PermissionReplacement.partial().meta({ id: "PermissionChange" });
export type PermissionChange = z.infer<typeof PermissionChange>;

export const PermissionsQuery = ListQuery.extend({
  search: Search,
  module: z
    .string()
    .max(100)
    .optional()
    .meta({ description: "Only those of this module.", examples: ["company"] }),
});
export const PermissionsPage = pageOf(Permission).meta({ id: "PermissionsPage" });

// Roles

export const Role = z
  .object({
    id: RowId,
    role: z.string().meta({ examples: ["Accountant"] }),
    desc: z.string().meta({ examples: ["Sees what was booked."] }),
    company: RowId.nullable().meta({ description: "Null: a system role, for every company." }),
    is_system_role: z.boolean().meta({ description: "Cannot be changed.", examples: [false] }),
    ...RecordFields,
  })
  .meta({ id: "Role", description: "A set of permissions, of one company or of every one." });
export type Role = z.infer<typeof Role>;

const roleName = Line(100).meta({
  description: "No other role of the company has it, nor a system role.",
  examples: ["Accountant"],
});
const roleDescription = Paragraphs(1_000).meta({ examples: ["Sees what was booked."] });
const roleCompany = RowId.meta({ description: "Whose role it is; stays.", examples: [3] });

export const NewRole = z
  .strictObject({ role: roleName, desc: roleDescription.default(""), company: roleCompany })
  .meta({ id: "NewRole" });
export type NewRole = z.infer<typeof NewRole>;

export const RoleReplacement = z
  .strictObject({ role: roleName, desc: roleDescription, company: roleCompany })
  .meta({ id: "RoleReplacement" });
export const RoleChange = RoleReplacement.partial().meta({ id: "RoleChange" });
export type RoleChange = z.infer<typeof RoleChange>;

export const RolesQuery = ListQuery.extend({
  search: Search,
  company: Id.optional().meta({
    description: "Only the system's roles and those of this company.",
    examples: [3],
  }),
});
export const RolesPage = pageOf(Role).meta({ id: "RolesPage" });

// What roles allow

export const RolePermission = z
  .object({
    id: RowId,
    role: RowId,
    permission: RowId,
    permission_code: z.string().meta({ examples: ["members.view"] }),
    granted: z.boolean().meta({ description: "False denies, whatever other roles grant." }),
    ...RecordFields,
  })
  .meta({ id: "RolePermission", description: "What a role allows, or denies." });
export type RolePermission = z.infer<typeof RolePermission>;

export const NewRolePermission = z
  .strictObject({
    role: RowId,
    permission: RowId,
    granted: z
      .boolean()
      .default(true)
      .meta({ description: "False denies, whatever other roles grant." }),
  })
  .meta({ id: "NewRolePermission" });
export type NewRolePermission = z.infer<typeof NewRolePermission>;

export const RolePermissionsQuery = ListQuery.extend({ role: FilterId("role") });
export const RolePermissionsPage = pageOf(RolePermission).meta({ id: "RolePermissionsPage" });

// Memberships

export const Membership = z
  .object({
    id: RowId,
    user: RowId.meta({ examples: [7] }),
    company: RowId,
    is_primary_company: z.boolean().meta({ description: "A user has one primary company." }),
    is_active: z.boolean().meta({ description: "False: the user does not see the company." }),
    ...RecordFields,
  })
  .meta({ id: "Membership", description: "A user's belonging to a company." });
export type Membership = z.infer<typeof Membership>;

export const NewMembership = z
  .strictObject({
    user: RowId.meta({ examples: [7] }),
    company: RowId,
    is_primary_company: z.boolean().default(false),
    is_active: z.boolean().default(true),
  })
  .meta({ id: "NewMembership" });
export type NewMembership = z.infer<typeof NewMembership>;

export const MembershipReplacement = z
  .strictObject({
    user: RowId.meta({ description: "Stays.", examples: [7] }),
    company: RowId.meta({ description: "Stays.", examples: [3] }),
    is_primary_company: z.boolean(),
    is_active: z.boolean(),
  })
  .meta({ id: "MembershipReplacement" });
export type MembershipReplacement = z.infer<typeof MembershipReplacement>;

export const MembershipsQuery = ListQuery.extend({
  user: FilterId("user", 7),
  company: FilterId("company"),
});
export const MembershipsPage = pageOf(Membership).meta({ id: "MembershipsPage" });

// Roles of memberships

export const MembershipRole = z
  .object({
    id: RowId,
    user_company: z.object({
      id: RowId,
      user: RowId.meta({ examples: [7] }),
      company: RowId,
      is_active: z.boolean(),
    }),
    role: z.object({
      id: RowId,
      role: z.string().meta({ examples: ["Accountant"] }),
      desc: z.string().meta({ examples: ["Sees what was booked."] }),
      company: RowId.nullable(),
    }),
    ...RecordFields,
  })
  .meta({ id: "MembershipRole", description: "A role that a member has." });
export type MembershipRole = z.infer<typeof MembershipRole>;

export const NewMembershipRole = z
  .strictObject({ user_company: RowId, role: RowId })
  .meta({ id: "NewMembershipRole" });
export type NewMembershipRole = z.infer<typeof NewMembershipRole>;

export const MembershipRolesQuery = ListQuery.extend({
  user: FilterId("user", 7),
  company: FilterId("company"),
  user_company: FilterId("membership"),
  role: FilterId("role"),
});
export const MembershipRolesPage = pageOf(MembershipRole).meta({ id: "MembershipRolesPage" });

// Invitations

export const InvitationStatus = z.enum(["pending", "accepted", "revoked", "expired"]);

const invitation = {
  id: RowId,
  email: z.string().meta({ examples: ["ada@corp.io"] }),
  company: RowId,
  role: RowId,
  status: InvitationStatus,
  invited_by: RowId.meta({ description: "The user who invited.", examples: [7] }),
  expires_at: z.date(),
  ...RecordFields,
};
export const Invitation = z
  .object(invitation)
  .meta({ id: "Invitation", description: "An offer to join a company, sent by e-mail." });
export type Invitation = z.infer<typeof Invitation>;

export const CreatedInvitation = z
  .object({
    ...invitation,
    token: z.string().meta({
      description: "What the link in the e-mail carries. Here once, nowhere later.",
      examples: ["q1yM3cT8mZ0J0u4gk3V2cW7rY5bN6xK9dF1hG2jL3pA"],
    }),
  })
  .meta({ id: "CreatedInvitation" });
export type CreatedInvitation = z.infer<typeof CreatedInvitation>;

const expiresAt = z.iso.datetime({ offset: true }).meta({
  description: "In the future, at most 90 days ahead; seven days unless said.",
  examples: ["2027-01-31T12:00:00Z"],
});
const invitedRole = RowId.meta({
  description: "A system role or one of the company; nothing beyond what the inviter holds.",
  examples: [3],
});

export const NewInvitation = z
  .strictObject({
    email: Email,
    company: RowId,
    role: invitedRole,
    expires_at: expiresAt.optional(),
  })
  .meta({ id: "NewInvitation" });
export type NewInvitation = z.infer<typeof NewInvitation>;

export const InvitationReplacement = z
  .strictObject({
    email: Email.meta({ description: "Stays.", examples: ["ada@corp.io"] }),
    company: RowId.meta({ description: "Stays.", examples: [3] }),
    role: invitedRole,
    expires_at: expiresAt.optional(),
  })
  .meta({ id: "InvitationReplacement" });
export type InvitationReplacement = z.infer<typeof InvitationReplacement>;

export const InvitationsQuery = ListQuery.extend({
  company: FilterId("company"),
  status: InvitationStatus.optional().meta({
    description: "Only those of this status.",
    examples: ["pending"],
  }),
});
export const InvitationsPage = pageOf(Invitation).meta({ id: "InvitationsPage" });

export const AcceptInvitation = z.strictObject({ token: Token }).meta({ id: "AcceptInvitation" });
export const AcceptedInvitation = z
  .object({
    detail: z.string().meta({ examples: ["You belong to Acme Ltd now."] }),
    company: RowId,
  })
  .meta({ id: "AcceptedInvitation" });
export const DetailAnswer = z
  .object({ detail: z.string().meta({ examples: ["The invitation is revoked."] }) })
  .meta({ id: "DetailAnswer" });

// What the caller may do

export const MyPermissionsQuery = z.strictObject({
  company: Id.meta({ description: "The company.", examples: [3] }),
});
export const MyPermissions = z
  .object({
    company: RowId,
    permissions: z.array(z.string()).meta({ examples: [["members.view"]] }),
  })
  .meta({ id: "MyPermissions", description: "What the caller may do in a company." });
export type MyPermissions = z.infer<typeof MyPermissions>;
