/** What must not compile. Checked by this package's compiler and by the repository's; never run. */
import { createOuvira, OuviraError } from "../src/client.ts";

export async function refusedByTheCompiler(): Promise<void> {
  const ouvira = createOuvira({ baseUrl: "http://localhost:8000", tenant: "demo" });
  const path = { id: 1 };

  // @ts-expect-error There is no such path.
  await ouvira.GET("/api/companies/");
  // @ts-expect-error The path does not answer this method.
  await ouvira.DELETE("/api/company/");
  // @ts-expect-error A field is misspelt.
  await ouvira.POST("/api/company/", { body: { name: "Engines", descripton: "" } });
  // @ts-expect-error A field is missing.
  await ouvira.POST("/api/company/", { body: {} });
  // @ts-expect-error The body is missing.
  await ouvira.POST("/api/company/");
  // @ts-expect-error A parameter of the path is missing.
  await ouvira.GET("/api/company/{id}/");
  // @ts-expect-error There is no such filter.
  await ouvira.GET("/api/company/", { params: { query: { nmae: "Engines" } } });
  // @ts-expect-error The answer has no such field.
  void (await ouvira.GET("/api/company/{id}/", { params: { path } })).title;
  // @ts-expect-error With a second factor on, a login answers without tokens.
  void (await ouvira.POST("/api/auth/login/", { body: { identifier: "a", password: "b" } })).tokens;

  // And what must: defaults need not be sent, what has no body answers undefined.
  const { id } = await ouvira.POST("/api/company/", { body: { name: "Engines" } });
  await ouvira.PATCH("/api/company/{id}/", { params: { path: { id } }, body: { address: "" } });
  const nothing: undefined = await ouvira.DELETE("/api/company/{id}/", { params: { path } });
  const logo: Blob = await ouvira.GET("/api/company/{id}/logo/", { params: { path } });
  throw new Error(`${String(nothing)} ${logo.size}`);
}

export function codeOf(error: OuviraError): boolean {
  // @ts-expect-error There is no such code.
  return error.code === "no_such_code";
}
