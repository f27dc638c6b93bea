import { z } from "zod";
import { Id, Line, Paragraphs, RecordFields, RowId } from "../plugins/fields.ts";
import { ListQuery, pageOf, Search } from "../plugins/lists.ts";
import { COMPANY_ORDERINGS } from "./companies.ts";
import { findFault } from "./feature-flags.ts";
import { canonicalLanguage, isCurrency, isTimezone, LANGUAGE_LENGTH_MAX } from "./standards.ts";

const Name = Line(200).meta({
  description: "No other company of the tenant has it.",
  examples: ["Acme Ltd"],
});

const fields = {
  name: Name,
  description: Paragraphs(5_000).meta({ examples: ["Makes everything."] }),
  address: Paragraphs(1_000).meta({ examples: ["1 Main Street, Cairo"] }),
  parent_company: RowId.nullable().meta({
    description: "The company above; the caller must be allowed to change it.",
    examples: [null],
  }),
  is_parent_company: z.boolean().meta({ description: "Whether others are to be put below it." }),
};

export const NewCompany = z
  .strictObject({
    name: fields.name,
    description: fields.description.default(""),
    address: fields.address.default(""),
    parent_company: fields.parent_company.optional(),
    is_parent_company: fields.is_parent_company.default(false),
  })
  .meta({ id: "NewCompany" });
export type NewCompany = z.infer<typeof NewCompany>;

const Status = z.enum(["active", "deactivated", "deleted"]).meta({
  description:
    "`active` and `deactivated` follow on each other; `deleted` follows on `deactivated`, by the Owner, and is the same as DELETE.",
});

export const CompanyReplacement = z
  .strictObject({ ...fields, status: Status })
  .meta({ id: "CompanyReplacement" });

export const CompanyChange = CompanyReplacement.partial().meta({ id: "CompanyChange" });
export type CompanyChange = z.infer<typeof CompanyChange>;

export const CompanySettings = z
  .object({
    default_language: z.string().meta({ description: "BCP 47.", examples: ["en-GB"] }),
    default_currency: z.string().meta({ description: "ISO 4217.", examples: ["EGP"] }),
    timezone: z.string().meta({ description: "IANA.", examples: ["Africa/Cairo"] }),
    fiscal_year_start_month: z
      .int()
      .min(1)
      .max(12)
      .meta({ examples: [1] }),
    feature_flags: z
      .record(z.string(), z.unknown())
      .meta({ description: "Whatever an application switches.", examples: [{ beta: true }] }),
  })
  .meta({ id: "CompanySettings" });
export type CompanySettings = z.infer<typeof CompanySettings>;

const settingsFields = {
  default_language: z
    .string()
    .max(LANGUAGE_LENGTH_MAX)
    .meta({ description: "BCP 47; kept in its canonical form.", examples: ["en-GB"] })
    .transform((text, context) => {
      const tag = canonicalLanguage(text);
      if (tag !== undefined) return tag;
      context.addIssue("Enter a language of BCP 47, such as en or pt-BR.");
      return z.NEVER;
    }),
  default_currency: z
    .string()
    .refine(isCurrency, "Enter a currency of ISO 4217, such as EUR.")
    .meta({ examples: ["EGP"] }),
  timezone: z
    .string()
    .refine(isTimezone, "Enter a time zone of IANA, such as Africa/Cairo.")
    .meta({ examples: ["Africa/Cairo"] }),
  fiscal_year_start_month: z
    .int()
    .min(1)
    .max(12)
    .meta({ examples: [1] }),
  feature_flags: z
    .record(z.string().max(100), z.unknown())
    .superRefine((flags, context) => {
      const fault = findFault(flags);
      if (fault !== undefined) context.addIssue(fault);
    })
    .meta({ examples: [{ beta: true }] }),
};

export const CompanySettingsReplacement = z
  .strictObject(settingsFields)
  .meta({ id: "CompanySettingsReplacement" });
export const CompanySettingsChange = CompanySettingsReplacement.partial().meta({
  id: "CompanySettingsChange",
});
export type CompanySettingsChange = z.infer<typeof CompanySettingsChange>;

const logo = z
  .string()
  .nullable()
  .meta({
    description: "Where the logo is; changes with it.",
    examples: ["/api/company/3/logo/?v=9f86d081884c7d65"],
  });

export const Company = z
  .object({
    id: RowId,
    name: z.string().meta({ examples: ["Acme Ltd"] }),
    logo,
    description: z.string().meta({ examples: ["Makes everything."] }),
    address: z.string().meta({ examples: ["1 Main Street, Cairo"] }),
    status: Status,
    create_by: z.int().meta({ description: "The user who made it.", examples: [7] }),
    parent_company: RowId.nullable().meta({
      description: "The company above; null at the top.",
      examples: [null],
    }),
    is_parent_company: z
      .boolean()
      .meta({ description: "Whether others are to be put below it.", examples: [true] }),
    settings: CompanySettings,
    ...RecordFields,
  })
  .meta({ id: "Company" });
export type Company = z.infer<typeof Company>;

export const CompanyLogo = z
  .object({
    logo: z
      .string()
      .meta({ description: "Where it is.", examples: ["/api/company/3/logo/?v=9f86d081884c7d65"] }),
    content_type: z.enum(["image/png", "image/jpeg", "image/webp"]),
    bytes: z.int().meta({ description: "Its length.", examples: [20_480] }),
  })
  .meta({ id: "CompanyLogo" });
export type CompanyLogo = z.infer<typeof CompanyLogo>;

export const CompanyListItem = z
  .object({
    id: RowId,
    name: z.string().meta({ examples: ["Acme Ltd"] }),
    logo,
    status: Status,
    is_parent_company: z.boolean(),
    created_at: z.date(),
  })
  .meta({ id: "CompanyListItem" });
export type CompanyListItem = z.infer<typeof CompanyListItem>;

export const Subsidiary = CompanyListItem.extend({
  parent_company: RowId.meta({ examples: [2] }),
}).meta({
  id: "Subsidiary",
});
export type Subsidiary = z.infer<typeof Subsidiary>;
export const SubsidiariesPage = pageOf(Subsidiary).meta({ id: "SubsidiariesPage" });

export const CompaniesQuery = ListQuery.extend({
  search: Search,
  parent: Id.optional().meta({
    description: "Only companies directly below this one.",
    examples: [3],
  }),
  ordering: z
    .enum(COMPANY_ORDERINGS)
    .default("name")
    .meta({ description: "What to sort by; `-` turns it around.", examples: ["-created_at"] }),
});
export const CompaniesPage = pageOf(CompanyListItem).meta({ id: "CompaniesPage" });
