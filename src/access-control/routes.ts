import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { problems } from "../plugins/openapi.ts";
import type { Services } from "../services.ts";
import { getMyPermissions } from "./effective-permissions.ts";
import { invitationRoutes } from "./invitations.routes.ts";
import { membershipRoleRoutes } from "./membership-roles.routes.ts";
import { membershipRoutes } from "./memberships.routes.ts";
import { permissionRoutes } from "./permissions.routes.ts";
import { rolePermissionRoutes } from "./role-permissions.routes.ts";
import { roleRoutes } from "./roles.routes.ts";
import { MyPermissions, MyPermissionsQuery } from "./schemas.ts";

/** Who may do what in which company, and how people come into one. */
export const accessControlRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (
  app,
  { services },
) => {
  await app.register(permissionRoutes, { prefix: "/permissions" });
  await app.register(roleRoutes, { prefix: "/roles" });
  await app.register(rolePermissionRoutes, { prefix: "/role-permissions" });
  await app.register(membershipRoutes, { prefix: "/user-companies" });
  await app.register(membershipRoleRoutes, { prefix: "/user-company-roles" });
  await app.register(invitationRoutes, { prefix: "/invitations", services });

  app.get(
    "/my-permissions/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getMyPermissions",
        tags: ["Access control"],
        summary: "Get what the caller may do in a company",
        description:
          "The codes to show or hide a button by. Owners, Admins and the tenant's admins hold every code; of the others' roles a denial wins over any grant.",
        querystring: MyPermissionsQuery,
        response: { 200: MyPermissions, ...problems("validation_error", "not_found") },
      },
    },
    (request) => getMyPermissions(request.tenant, request.principal.userId, request.query.company),
  );
};
