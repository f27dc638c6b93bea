/**
 * The least there is: Fastify, postgres.js and one route that asks the database. What `npm start` is compared with.
 * A process of its own, told what to do by its arguments: port, URL.
 */
import Fastify from "fastify";
import postgres from "postgres";

const [port, url = ""] = process.argv.slice(2);
// Without its types, which it would look for in a catalogue of thousands of tenants: that took a second.
const sql = postgres(url, { max: 8, fetch_types: false });
const app = Fastify();
app.get("/readyz", async () => {
  await sql`select 1`;
  return { status: "ok" };
});
await app.listen({ port: Number(port), host: "127.0.0.1" });
process.once("SIGTERM", () => process.exit(0));
