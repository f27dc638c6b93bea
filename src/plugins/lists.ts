import type { FastifyRequest } from "fastify";
import { z } from "zod";
import { AppError } from "../errors.ts";
import type { Page } from "../pages.ts";

const PAGE_SIZE_DEFAULT = 20;
const PAGE_SIZE_MAX = 100;
/** Deepest page: an offset of 10^6 rows is as far as counting to a page makes sense. */
const PAGE_MAX = 1_000_000 / PAGE_SIZE_DEFAULT;
const SEARCH_LENGTH_MAX = 100;

/** What every list takes. */
export const ListQuery = z.strictObject({
  page: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_MAX)
    .default(1)
    .meta({
      description: "Which page, from 1.",
      examples: [1],
    }),
  page_size: z.coerce
    .number()
    .int()
    .min(1)
    .max(PAGE_SIZE_MAX)
    .default(PAGE_SIZE_DEFAULT)
    .meta({
      description: "Rows of a page, 100 at most.",
      examples: [20],
    }),
});

/** `?search=`, for the lists that have it. */
export const Search = z
  .string()
  .trim()
  .min(1)
  .max(SEARCH_LENGTH_MAX)
  .refine((text) => !text.includes("\u0000"), "A NUL cannot be searched for.")
  .optional()
  .meta({ description: "Part of what is looked for, in upper or lower case.", examples: ["ada"] });

/** Which rows a page is. */
export function rangeOf({ page, page_size: pageSize }: z.infer<typeof ListQuery>): {
  limit: number;
  offset: number;
} {
  return { limit: pageSize, offset: (page - 1) * pageSize };
}

/** The schema of a page of rows. */
export function pageOf<Row extends z.ZodType>(row: Row) {
  const link = z.url().nullable();
  const page = z.object({
    count: z.int().meta({ description: "Rows on all pages.", examples: [1] }),
    next: link.meta({ description: "The next page; null on the last.", examples: [null] }),
    previous: link.meta({ description: "The page before; null on the first.", examples: [null] }),
    results: z.array(row),
  });
  return page.meta({ description: "A page of the list." });
}

/**
 * The answer of a list, with the addresses of the pages beside it.
 *
 * @throws AppError `not_found` past the last page; `bad_host` when a link cannot be made of the Host
 */
export function sendPage<Row>(
  request: FastifyRequest,
  { page, page_size: pageSize }: z.infer<typeof ListQuery>,
  { count, results }: Page<Row>,
): { count: number; next: string | null; previous: string | null; results: Row[] } {
  const pages = Math.max(1, Math.ceil(count / pageSize));
  if (page > pages) throw new AppError("not_found", `There are only ${pages} pages.`);
  return {
    count,
    next: page < pages ? linkTo(request, { page: page + 1 }) : null,
    previous: page > 1 ? linkTo(request, { page: page - 1 }) : null,
    results,
  };
}

/**
 * The address of the same list with other parameters; an undefined one is taken out.
 *
 * @throws AppError `bad_host` when a link cannot be made of the Host
 */
export function linkTo(
  request: FastifyRequest,
  parameters: Readonly<Record<string, string | number | undefined>>,
): string {
  const origin = `${request.protocol}://${request.host}`;
  if (!URL.canParse(request.url, origin)) {
    throw new AppError("bad_host", "The Host header is not a host and a port.");
  }
  const url = new URL(request.url, origin);
  for (const [name, value] of Object.entries(parameters)) {
    if (value === undefined) url.searchParams.delete(name);
    else url.searchParams.set(name, String(value));
  }
  return url.href;
}
