import { QueryClient } from "@tanstack/react-query";
import { Admin, CustomRoutes, Resource } from "react-admin";
import { Route } from "react-router-dom";
import { PermissionList } from "./access/permission-list.tsx";
import { RoleList, RoleShow } from "./access/roles.tsx";
import { authProvider } from "./api/auth-provider.ts";
import { dataProvider } from "./api/data-provider.ts";
import { ApiError } from "./api/problem.ts";
import { ActivityList } from "./audit/activity-list.tsx";
import { SecurityList } from "./audit/security-list.tsx";
import { VerificationPage } from "./audit/verification-page.tsx";
import { CompanyList, CompanyShow } from "./companies/companies.tsx";
import { FleetList } from "./fleet/fleet-list.tsx";
import { ConsoleLayout } from "./layout/console-layout.tsx";
import { LoginPage } from "./login/login-page.tsx";
import { SecondFactorPage } from "./login/second-factor-page.tsx";
import { InvitationList } from "./people/invitation-list.tsx";
import { MembershipList } from "./people/membership-list.tsx";
import { UserList } from "./people/user-list.tsx";
import { UserShow } from "./people/user-show.tsx";
import { TenantCreate } from "./tenants/tenant-create.tsx";
import { TenantList } from "./tenants/tenant-list.tsx";
import { TenantShow } from "./tenants/tenant-show.tsx";
import { theme } from "./theme.ts";

/** How often a read is tried again by itself. */
const RETRIES = 2;

/** How long an answer is taken for the next question too. */
const FRESH_MS = 3_000;

const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      // Only where the server was not there: what it refused it refuses again, and counts.
      retry: (failures, error) =>
        failures < RETRIES && error instanceof ApiError && error.code === "unreachable",
      // Parts of one page ask for the same names. A row that a list brought along may lack fields.
      staleTime: ({ queryKey }) => (queryKey[1] === "getOne" ? 0 : FRESH_MS),
      refetchOnWindowFocus: false,
    },
  },
});

/** The operators' console: the platform, and inside of one tenant what its admins see. */
export function Console() {
  return (
    <Admin
      title="Ouvira console"
      authProvider={authProvider}
      dataProvider={dataProvider}
      queryClient={queryClient}
      layout={ConsoleLayout}
      loginPage={LoginPage}
      theme={theme}
      darkTheme={null}
      requireAuth
      // It would tell its maker's server where it is used.
      disableTelemetry
    >
      <Resource
        name="tenants"
        list={TenantList}
        create={TenantCreate}
        show={TenantShow}
        recordRepresentation="name"
      />
      <Resource name="migrations" list={FleetList} />
      <Resource name="users" list={UserList} show={UserShow} recordRepresentation="full_name" />
      <Resource
        name="companies"
        list={CompanyList}
        show={CompanyShow}
        recordRepresentation="name"
      />
      <Resource name="roles" list={RoleList} show={RoleShow} recordRepresentation="role" />
      <Resource name="permissions" list={PermissionList} />
      <Resource name="memberships" list={MembershipList} />
      <Resource name="invitations" list={InvitationList} />
      <Resource name="activity-logs" list={ActivityList} />
      <Resource name="security-logs" list={SecurityList} />
      <CustomRoutes>
        <Route path="/verification" element={<VerificationPage />} />
        <Route path="/second-factor" element={<SecondFactorPage />} />
      </CustomRoutes>
    </Admin>
  );
}
