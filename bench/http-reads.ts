import type { z } from "zod";
import { getMyPermissions } from "../src/access-control/effective-permissions.ts";
import { listMemberships } from "../src/access-control/memberships.ts";
import { listPermissions } from "../src/access-control/permissions.ts";
import { listRoles } from "../src/access-control/roles.ts";
import {
  MembershipsPage,
  MyPermissions,
  PermissionsPage,
  RolesPage,
} from "../src/access-control/schemas.ts";
import { getProfile } from "../src/account/profile.ts";
import { Profile, Session } from "../src/account/schemas.ts";
import { listSessions } from "../src/account/sessions.ts";
import { makeActor } from "../src/audit/actor.ts";
import { listNotifications } from "../src/audit/notifications.ts";
import { NotificationsPage } from "../src/audit/schemas.ts";
import { getCompany, listCompanies } from "../src/company/companies.ts";
import { getCompanySettings } from "../src/company/company-settings.ts";
import { CompaniesPage, Company, CompanySettings } from "../src/company/schemas.ts";
import type { TenantConnection } from "../src/db/tenant-database.ts";
import type { Page } from "../src/pages.ts";
import { COMPANY_ID, MEMBER_ID } from "./http-seed.ts";

interface Read {
  /** Of the service. */
  readonly path: string;
  readonly answer: z.ZodType;
  /** What the service's route calls. */
  readonly read: (tenant: TenantConnection) => Promise<unknown>;
}

const actor = () => makeActor(MEMBER_ID, { ip: "127.0.0.1", userAgent: undefined });
const PAGE = { limit: 20, offset: 0 };
const paged = async (page: Promise<Page<unknown>>) => ({
  ...(await page),
  next: null,
  previous: null,
});

/** Ten reads of a client that has just logged in. */
export const READS = {
  getProfile: {
    path: "/api/account/profile/",
    answer: Profile,
    read: (tenant) => getProfile(tenant, MEMBER_ID),
  },
  listCompanies: {
    path: "/api/company/",
    answer: CompaniesPage,
    read: (tenant) =>
      paged(
        listCompanies(
          tenant,
          MEMBER_ID,
          { search: undefined, parent: undefined, ordering: "name" },
          PAGE,
        ),
      ),
  },
  getMyPermissions: {
    path: `/api/access-control/my-permissions/?company=${COMPANY_ID}`,
    answer: MyPermissions,
    read: (tenant) => getMyPermissions(tenant, MEMBER_ID, COMPANY_ID),
  },
  listSessions: {
    path: "/api/account/sessions/",
    answer: Session.array(),
    read: (tenant) => listSessions(tenant, { userId: MEMBER_ID, sessionId: 1 }),
  },
  getCompany: {
    path: `/api/company/${COMPANY_ID}/`,
    answer: Company,
    read: (tenant) => getCompany(tenant, actor(), COMPANY_ID),
  },
  getCompanySettings: {
    path: `/api/company/${COMPANY_ID}/settings/`,
    answer: CompanySettings,
    read: (tenant) => getCompanySettings(tenant, actor(), COMPANY_ID),
  },
  listNotifications: {
    path: "/api/audit/notifications/",
    answer: NotificationsPage,
    read: async (tenant) => {
      const { unreadCount, ...page } = await listNotifications(tenant, MEMBER_ID, false, PAGE);
      return { ...page, next: null, previous: null, unread_count: unreadCount };
    },
  },
  listMemberships: {
    path: "/api/access-control/user-companies/",
    answer: MembershipsPage,
    read: (tenant) =>
      paged(listMemberships(tenant, actor(), { user: undefined, company: undefined }, PAGE)),
  },
  listRoles: {
    path: "/api/access-control/roles/",
    answer: RolesPage,
    read: (tenant) =>
      paged(listRoles(tenant, MEMBER_ID, { search: undefined, company: undefined }, PAGE)),
  },
  listPermissions: {
    path: "/api/access-control/permissions/",
    answer: PermissionsPage,
    read: (tenant) =>
      paged(listPermissions(tenant, { search: undefined, module: undefined }, PAGE)),
  },
} as const satisfies Record<string, Read>;

export type ReadName = keyof typeof READS;

// Object.keys gives the keys, in the order they are written in.
export const READ_NAMES = Object.keys(READS) as ReadName[];
