import type { TestApp, TestTenant } from "./app.ts";
import { operatorBase, PLATFORM_RECIPES, type PlatformGround } from "./fuzz-platform.ts";
import type { Base, Target } from "./fuzz-requests.ts";
import { RECIPES } from "./permission-requests.ts";
import { type Person, World } from "./world.ts";

/** Recipes of whole operations: those with a case in brackets or a query are the permissions' own. */
export const OPERATION_NAMES: readonly string[] = [
  ...Object.keys(RECIPES).filter((label) => !/[?(]/.test(label)),
  ...Object.keys(PLATFORM_RECIPES),
];

/** Where valid requests are made. */
export interface RequestGround {
  readonly app: TestApp;
  readonly tenant: TestTenant;
  /** Of what operators send. */
  readonly platform: PlatformGround;
  readonly passwordHash: string;
}

/** A valid request, for whoever may send it, on rows of its own. */
export interface MadeRequest extends Base {
  /** Whose rows they are, in a tenant; undefined for operators. */
  readonly rows: { readonly world: World; readonly person: Person } | undefined;
}

export async function makeRequest(
  { app, tenant, platform, passwordHash }: RequestGround,
  { name, url }: Target,
): Promise<MadeRequest> {
  if (name in PLATFORM_RECIPES) {
    const { call, token } = await operatorBase(platform, name);
    return { call, token: call.token ?? token, tenant: undefined, rows: undefined };
  }
  const recipe = RECIPES[name];
  if (!recipe) throw new Error(`test/permission-requests.ts does not say how to call ${name}`);
  const world = await World.create(app, tenant, passwordHash);
  const person = await world.person("tenant admin");
  const call = await recipe(world, person);
  const isTenants = url.startsWith("/api/");
  return {
    call,
    token: isTenants ? person.token : undefined,
    tenant: isTenants ? tenant.subdomain : undefined,
    rows: { world, person },
  };
}
