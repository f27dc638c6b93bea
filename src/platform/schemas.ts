import { z } from "zod";
import { CurrentPassword, Email, FullName, Password, Phone, Tokens } from "../auth/schemas.ts";
import {
  ChallengeCodeRequest,
  ConfirmSecondFactorRequest,
  RefreshRequest,
} from "../auth/schemas.ts";
import { Id, Line, RowId } from "../plugins/fields.ts";
import { ListQuery, pageOf, Search } from "../plugins/lists.ts";

export { ChallengeCodeRequest, ConfirmSecondFactorRequest, RefreshRequest, Tokens };

export const OperatorLoginRequest = z
  .strictObject({ email: Email, password: CurrentPassword })
  .meta({ id: "OperatorLoginRequest" });

export const OperatorTokens = z
  .object({ tokens: Tokens })
  .meta({ id: "OperatorTokens", description: "The login is done." });

const OperatorChallengeAnswer = z
  .object({
    requires_2fa: z.literal(true),
    session_id: z.string().meta({
      description: "For the second step, within 10 minutes.",
      examples: ["wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk"],
    }),
  })
  .meta({
    id: "OperatorChallengeAnswer",
    description: "The password was right; a code is still to come.",
  });

export const OperatorLoginAnswer = z
  .union([OperatorTokens, OperatorChallengeAnswer])
  .meta({ id: "OperatorLoginAnswer" });

export const OperatorPasswordRequest = z
  .strictObject({ password: CurrentPassword })
  .meta({ id: "OperatorPasswordRequest" });

export const OperatorEnrolmentAnswer = z
  .object({
    secret: z.string().meta({
      description: "In base32; shown once.",
      examples: ["JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"],
    }),
    qr_code: z.string().meta({
      description: "The `otpauth://` URI that apps read from a QR code.",
      examples: [
        "otpauth://totp/Ouvira:ops%40corp.io?issuer=Ouvira&secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
      ],
    }),
  })
  .meta({ id: "OperatorEnrolmentAnswer" });

/** Rates as they are written. */
const RATES = { authenticated: "5000/day" };

/** Migrations are named by when they were made. */
const VERSION = "1790000220000_create-activity-logs";

const Status = z.enum(["active", "read_only", "suspended"]);
const MigrationState = z.enum(["pending", "running", "applied", "failed"]);
const Name = Line(200).meta({ description: "What people call the tenant.", examples: ["Acme"] });
/** Whether it is a good one is said by the function that stores it. */
const Subdomain = z
  .string()
  .min(1)
  .max(63)
  .meta({
    description: "3 to 63 letters, digits and dashes; some are reserved.",
    examples: ["acme"],
  });

export const PlatformTenant = z
  .object({
    id: RowId,
    name: z.string().meta({ examples: ["Acme"] }),
    subdomain: z.string().meta({ examples: ["acme"] }),
    status: Status.meta({
      description: "`read_only`: changes are refused; `suspended`: every request is.",
    }),
    domains: z
      .array(z.string())
      .meta({ description: "Verified ones, the primary first.", examples: [["app.acme.example"]] }),
    schema: z.string().meta({ description: "In PostgreSQL.", examples: ["t_3"] }),
    version: z
      .string()
      .meta({ description: "The newest migration of its schema.", examples: [VERSION] }),
    migration_state: MigrationState.meta({ examples: ["applied"] }),
    last_error: z
      .string()
      .nullable()
      .meta({ description: "Why its last migration failed.", examples: [null] }),
    sends_messages: z.boolean().meta({ description: "Whether its e-mails and SMS are sent." }),
    paid_until: z.date().nullable().meta({
      description: "For whoever bills: nothing ends by itself when it has passed.",
    }),
    on_trial: z.boolean().meta({ examples: [false] }),
    rate_limits: z
      .record(z.string(), z.string())
      .meta({ description: "Its own limits instead of the installation's.", examples: [RATES] }),
    delete_after: z
      .date()
      .nullable()
      .meta({ description: "When it may be erased.", examples: [null] }),
    created_at: z.date(),
  })
  .meta({ id: "PlatformTenant" });

export const PlatformTenantsQuery = ListQuery.extend({
  search: Search,
  status: Status.optional().meta({
    description: "Only those of this status.",
    examples: ["active"],
  }),
});
export const PlatformTenantsPage = pageOf(PlatformTenant).meta({ id: "PlatformTenantsPage" });

const Entries = z
  .int()
  .meta({ description: "From the ids, which have gaps: about as many.", examples: [5_310] });

export const PlatformTenantUsage = z
  .object({
    users: z.int().meta({ examples: [41] }),
    active_users: z
      .int()
      .meta({ description: "Logged in within 30 days, or using a login.", examples: [12] }),
    companies: z.int().meta({ examples: [3] }),
    pending_invitations: z.int().meta({ examples: [2] }),
    activity_entries: Entries,
    security_entries: Entries,
    bytes: z
      .int()
      .meta({ description: "Of its tables, with their indexes.", examples: [1_441_792] }),
    last_login: z.date().nullable().meta({ description: "Of any of its users." }),
  })
  .meta({ id: "PlatformTenantUsage" });

export const NewPlatformTenant = z
  .strictObject({
    name: Name,
    subdomain: Subdomain,
    owner: z.strictObject({
      full_name: FullName.default("Owner"),
      email: Email,
      phone: Phone,
      password: Password.optional().meta({
        description: "Without one a link to set it is answered.",
      }),
    }),
  })
  .meta({ id: "NewPlatformTenant" });

export const CreatedPlatformTenant = PlatformTenant.extend({
  password_link: z
    .string()
    .nullable()
    .meta({
      description: "With which the owner sets a password, within 72 hours; answered once.",
      examples: [
        "https://app.example.com/reset-password?tenant=acme#token=wq3nH6mVvH0Jt1b9sYx4cKfLr2eUaZpTgQdMiO8N5Rk",
      ],
    }),
}).meta({ id: "CreatedPlatformTenant" });

export const PlatformTenantChange = z
  .strictObject({
    name: Name,
    subdomain: Subdomain,
    sends_messages: z.boolean(),
    paid_until: z.iso
      .datetime({ offset: true })
      .transform((text) => new Date(text))
      .nullable()
      .meta({ examples: ["2027-01-01T00:00:00Z"] }),
    on_trial: z.boolean(),
    rate_limits: z.record(z.string().max(40), z.string().max(40).nullable()).meta({
      description: "Those that are sent; null gives one back to the installation.",
      examples: [RATES],
    }),
  })
  .partial()
  .meta({ id: "PlatformTenantChange" });

export const DeletionQuery = z.strictObject({
  grace_days: z.coerce
    .number()
    .int()
    .min(0)
    .max(3_650)
    .default(30)
    .meta({
      description: "Days until it may be erased.",
      examples: [30],
    }),
});

export const PlatformDomain = z
  .object({
    id: RowId,
    domain: z.string().meta({ examples: ["app.acme.example"] }),
    is_primary: z
      .boolean()
      .meta({ description: "One of the verified is the primary.", examples: [false] }),
    verified_at: z
      .date()
      .nullable()
      .meta({ examples: [null] }),
    record: z
      .object({
        name: z.string().meta({ examples: ["_ouvira.app.acme.example"] }),
        value: z.string().meta({ examples: ["ouvira-verification=6Yw1Jk0m4nPq"] }),
      })
      .nullable()
      .meta({ description: "The TXT record to make; null once it is verified." }),
  })
  .meta({ id: "PlatformDomain" });
export const PlatformDomains = z.array(PlatformDomain).meta({ id: "PlatformDomains" });

export const NewPlatformDomain = z
  .strictObject({
    domain: z
      .string()
      .min(1)
      .max(253)
      .meta({ examples: ["app.acme.example"] }),
  })
  .meta({ id: "NewPlatformDomain" });

export const DomainParams = z.strictObject({
  id: Id.meta({ description: "The tenant's id.", examples: [3] }),
  domain_id: Id.meta({ description: "The domain's id.", examples: [5] }),
});

const LedgerEntry = z
  .object({
    id: RowId.meta({ description: "The tenant's." }),
    subdomain: z.string().meta({ examples: ["acme"] }),
    version: z.string().meta({ examples: [VERSION] }),
    state: MigrationState.meta({ examples: ["applied"] }),
    attempts: z.int().meta({ examples: [1] }),
    last_error: z
      .string()
      .nullable()
      .meta({ examples: [null] }),
    duration_ms: z.int().meta({ examples: [41] }),
    updated_at: z.date(),
  })
  .meta({ id: "MigrationLedgerEntry" });

export const MigrationsQuery = ListQuery.extend({
  state: MigrationState.optional().meta({
    description: "Only those of this state.",
    examples: ["failed"],
  }),
});
export const MigrationsPage = pageOf(LedgerEntry)
  .extend({
    release: z
      .string()
      .meta({ description: "The newest migration of this release.", examples: [VERSION] }),
    behind: z.int().meta({ description: "Tenants that are not of it.", examples: [0] }),
  })
  .meta({ id: "MigrationsPage" });

export const NewSupportToken = z
  .strictObject({
    reason: Line(500).meta({
      description: "Written to the tenant's security log.",
      examples: ["Ticket 4711: the invitation does not arrive"],
    }),
    write: z.boolean().default(false).meta({ description: "Whether it may change anything." }),
  })
  .meta({ id: "NewSupportToken" });

export const SupportToken = z
  .object({
    access: z.string().meta({
      description: "Sent as Bearer token, with the tenant's X-Tenant.",
      examples: ["eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl"],
    }),
    expires_in: z.int().meta({ description: "Seconds.", examples: [900] }),
  })
  .meta({ id: "SupportToken" });
