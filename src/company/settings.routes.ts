import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { IdParams } from "../plugins/fields.ts";
import { problems } from "../plugins/openapi.ts";
import { changeCompanySettings, getCompanySettings } from "./company-settings.ts";
import { CompanySettings, CompanySettingsChange, CompanySettingsReplacement } from "./schemas.ts";

/** How a company counts, writes and switches: language, currency, time zone, feature flags. */
export const settingsRoutes: FastifyPluginAsyncZod = async (app) => {
  const tags = ["Company"];
  const params = IdParams;

  app.get(
    "/",
    {
      config: { guard: "authenticated" },
      schema: {
        operationId: "getCompanySettings",
        tags,
        summary: "Get a company's settings",
        description: "For its members.",
        params,
        response: { 200: CompanySettings, ...problems("validation_error", "not_found") },
      },
    },
    (request) => getCompanySettings(request.tenant, request.actor, request.params.id),
  );

  for (const [method, operationId, summary, body] of [
    ["PUT", "replaceCompanySettings", "Replace a company's settings", CompanySettingsReplacement],
    ["PATCH", "changeCompanySettings", "Change a company's settings", CompanySettingsChange],
  ] as const) {
    app.route({
      method,
      url: "/",
      config: { guard: "company.settings" },
      schema: {
        operationId,
        tags,
        summary,
        description:
          "The other members are notified. `feature_flags` is replaced as a whole where it is sent.",
        params,
        body,
        response: {
          200: CompanySettings,
          ...problems("validation_error", "permission_denied", "not_found"),
        },
      },
      handler: (request) =>
        request.tenant.transaction((tx) =>
          changeCompanySettings(tx, request.actor, request.params.id, request.body),
        ),
    });
  }
};
