import { useQueryClient } from "@tanstack/react-query";
import { useRedirect } from "react-admin";
import { callPlatform } from "../api/requests.ts";
import { supportSession, type SupportSession } from "../api/support-session.ts";

/** Which tenant is stepped into, why, and whether anything may be changed there. */
export type SupportRequest = Pick<
  SupportSession,
  "tenantId" | "tenantName" | "subdomain" | "reason" | "canWrite"
>;

/** Asks for a token, which the tenant's security log tells of. @throws ApiError */
async function requestSupport(request: SupportRequest): Promise<void> {
  const { access, expires_in: seconds } = await callPlatform<{
    access: string;
    expires_in: number;
  }>("POST", `tenants/${request.tenantId}/support-token/`, {
    reason: request.reason,
    write: request.canWrite,
  });
  supportSession.set({ ...request, access, expiresAt: Date.now() + seconds * 1_000 });
}

/** Stepping into a tenant, staying longer, and leaving. */
export function useSupport(): {
  readonly enter: (request: SupportRequest) => Promise<void>;
  readonly extend: () => Promise<void>;
  readonly leave: () => Promise<void>;
} {
  const queries = useQueryClient();
  const redirect = useRedirect();
  return {
    async enter(request) {
      await requestSupport(request);
      // Rows of another tenant have the same ids.
      queries.clear();
      redirect("/users");
    },
    async extend() {
      const current = supportSession.get();
      if (current) await requestSupport(current);
    },
    async leave() {
      const current = supportSession.get();
      // Forgotten here whatever the server says: what it is not told to end, ends after its quarter of an hour.
      redirect(current ? `/tenants/${current.tenantId}/show` : "/tenants");
      supportSession.set(undefined);
      queries.clear();
      if (current) await callPlatform("DELETE", `tenants/${current.tenantId}/support-token/`);
    },
  };
}
