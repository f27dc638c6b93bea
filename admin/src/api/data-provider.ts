import type { DataProvider, GetListParams, RaRecord } from "react-admin";
import { callPlatform, callTenant, type Method } from "./requests.ts";

/** Where the rows of a resource are, and by what the API calls them. */
interface Place {
  readonly api: "platform" | "tenant";
  readonly path: string;
  /** Columns the API can order by; others keep its own order. */
  readonly orderings?: readonly string[];
  /** Sent with every list, unless a filter says otherwise. */
  readonly filter?: Readonly<Record<string, unknown>>;
}

const PLACES: Readonly<Record<string, Place>> = {
  tenants: { api: "platform", path: "tenants/" },
  migrations: { api: "platform", path: "migrations/" },
  users: { api: "tenant", path: "account/users/" },
  companies: { api: "tenant", path: "company/", orderings: ["name", "created_at"] },
  roles: { api: "tenant", path: "access-control/roles/" },
  permissions: { api: "tenant", path: "access-control/permissions/" },
  "role-permissions": { api: "tenant", path: "access-control/role-permissions/" },
  memberships: { api: "tenant", path: "access-control/user-companies/" },
  "membership-roles": { api: "tenant", path: "access-control/user-company-roles/" },
  invitations: { api: "tenant", path: "access-control/invitations/" },
  "activity-logs": { api: "tenant", path: "audit/activity-logs/" },
  "security-logs": { api: "tenant", path: "audit/security-logs/", filter: { all: true } },
};

/** The most rows a list of the API gives at once. */
export const PAGE_SIZE_MAX = 100;

/** From how many rows on they are looked for in a page of the list, before one by one. */
const ONE_BY_ONE_MAX = 3;

interface ListAnswer {
  readonly count: number;
  readonly results: RaRecord[];
}

function placeOf(resource: string): Place {
  const place = PLACES[resource];
  if (!place) throw new Error(`There is no resource ${resource}`);
  return place;
}

function call<T>(resource: string, method: Method, rest = "", body?: object): Promise<T> {
  const { api, path } = placeOf(resource);
  return (api === "platform" ? callPlatform : callTenant)<T>(method, `${path}${rest}`, body);
}

function queryOf(
  { orderings = [], filter: always = {} }: Place,
  { pagination, sort, filter = {} }: GetListParams,
): string {
  const query = new URLSearchParams();
  if (pagination) {
    query.set("page", String(pagination.page));
    query.set("page_size", String(Math.min(pagination.perPage, PAGE_SIZE_MAX)));
  }
  if (sort && orderings.includes(sort.field)) {
    query.set("ordering", `${sort.order === "DESC" ? "-" : ""}${sort.field}`);
  }
  for (const [name, value] of Object.entries({ ...always, ...filter })) {
    // What filters hold; an empty one filters nothing.
    const text = typeof value === "string" ? value : JSON.stringify(value ?? "");
    if (text !== "" && text !== '""') query.set(name, text);
  }
  // One user or all, not both.
  if (query.has("user")) query.delete("all");
  return `?${query.toString()}`;
}

/** Rows by their ids: from the first page of the list where they are many, else one by one. */
async function getMany(resource: string, ids: readonly number[]): Promise<RaRecord[]> {
  const found = new Map<number, RaRecord>();
  if (ids.length > ONE_BY_ONE_MAX) {
    const page = await call<ListAnswer>(resource, "GET", `?page_size=${PAGE_SIZE_MAX}`);
    for (const row of page.results) found.set(Number(row.id), row);
  }
  const rows = ids.map(
    async (id) =>
      found.get(id) ??
      // Deleted since, or not to be seen: the list shows its id.
      call<RaRecord>(resource, "GET", `${id}/`).catch(() => undefined),
  );
  return (await Promise.all(rows)).filter((row) => row !== undefined);
}

/**
 * The API's lists and rows for react-admin. Its types leave it to the caller what a row is; so does this.
 */
export const dataProvider: DataProvider = {
  async getList(resource, parameters) {
    const { count, results, ...meta } = await call<ListAnswer>(
      resource,
      "GET",
      queryOf(placeOf(resource), parameters),
    );
    return { data: results as never[], total: count, meta };
  },
  async getOne(resource, { id }) {
    return { data: await call(resource, "GET", `${id}/`) };
  },
  async getMany(resource, { ids }) {
    return { data: (await getMany(resource, ids.map(Number))) as never[] };
  },
  async getManyReference(resource, { target, id, filter, ...parameters }) {
    const { count, results } = await call<ListAnswer>(
      resource,
      "GET",
      queryOf(placeOf(resource), { ...parameters, filter: { ...filter, [target]: id } }),
    );
    return { data: results as never[], total: count };
  },
  async create(resource, { data }) {
    return { data: await call(resource, "POST", "", data) };
  },
  async update(resource, { id, data, previousData }) {
    return { data: await call(resource, "PATCH", `${id}/`, changed(data, previousData)) };
  },
  updateMany: () => Promise.reject(new Error("Rows are changed one by one.")),
  async delete(resource, { id, previousData }) {
    await call(resource, "DELETE", `${id}/`);
    return { data: (previousData ?? { id }) as never };
  },
  deleteMany: () => Promise.reject(new Error("Rows are deleted one by one.")),
};

/** The fields whose value differs: the API refuses what it does not know, and a form holds the whole row. */
function changed(data: object, previous: object | undefined): object {
  const before = new Map(Object.entries(previous ?? {}));
  return Object.fromEntries(
    Object.entries(data).filter(
      ([name, value]) => JSON.stringify(value) !== JSON.stringify(before.get(name)),
    ),
  );
}
