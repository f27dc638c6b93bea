/**
 * What `npm run bench -- http` compares the service with: Fastify and postgres.js on one bare schema, without
 * tenancy, logins, limits and logs. Three routes read the service's own answer from one row by its primary key;
 * ten more run the statements of the service's reads. A process of its own, told what to do by its arguments:
 * port, URL, schema, connections.
 */
import Fastify from "fastify";
import postgres from "postgres";
import { jsonSchemaOf } from "../src/plugins/answers.ts";
import { bareTenant } from "./bare-tenant.ts";
import { READ_NAMES, type ReadName, READS } from "./http-reads.ts";
import { MEMBER_ID } from "./http-seed.ts";

const [port, url = "", schema = "", connections] = process.argv.slice(2);
const sql = postgres(url, {
  max: Number(connections),
  fetch_types: false,
  types: { id: { to: 20, from: [20], serialize: String, parse: Number } },
  connection: { search_path: schema },
});
const app = Fastify();
const answerOf = (name: ReadName) => ({
  schema: { response: { 200: jsonSchemaOf(READS[name].answer) } },
});

app.get("/row/getProfile/", answerOf("getProfile"), async () => {
  const [profile] = await sql`
    select
      id, username, full_name, email, primary_mobile, account_uid,
      email_verified_at is not null as email_verified,
      phone_verified_at is not null as phone_verified,
      two_fa_type is not null       as is_2fa_enabled,
      two_fa_type, date_joined, last_login
    from users
    where id = ${MEMBER_ID}`;
  return profile;
});
for (const name of ["listCompanies", "getMyPermissions"] as const) {
  app.get(`/row/${name}/`, answerOf(name), async () => {
    const [row] = await sql`select body from bench_answers where name = ${name}`;
    return row?.["body"];
  });
}

const tenant = bareTenant(url, schema, Number(connections));
for (const name of READ_NAMES) {
  app.get(`/read/${name}/`, answerOf(name), () => READS[name].read(tenant));
}
app.get("/readyz", () => ({ status: "ok" }));
await app.listen({ port: Number(port), host: "127.0.0.1" });
process.once("SIGTERM", () => process.exit(0));
