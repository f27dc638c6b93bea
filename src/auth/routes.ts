import type { FastifyPluginAsync } from "fastify";
import type { Services } from "../services.ts";
import { loginRoutes } from "./login.routes.ts";
import { passwordRoutes } from "./password.routes.ts";
import { secondFactorRoutes } from "./second-factor.routes.ts";
import { signupRoutes } from "./signup.routes.ts";

/** Sign-up by a code sent to a phone, login and its second factor, tokens, passwords. */
export const authRoutes: FastifyPluginAsync<{ services: Services }> = async (app, { services }) => {
  await app.register(signupRoutes, { services });
  await app.register(loginRoutes, { services });
  await app.register(secondFactorRoutes, { services });
  await app.register(passwordRoutes, { services });
};
