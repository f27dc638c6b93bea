import { z } from "zod";
import { FilterId, Flag, Id, RowId } from "../plugins/fields.ts";
import { ListQuery, pageOf } from "../plugins/lists.ts";

const DAY_MS = 86_400_000;

/** A day of UTC or a moment, as the first moment it means and the first one after it. */
const Moment = (meaning: string) =>
  z
    .union([z.iso.date(), z.iso.datetime({ offset: true })], "Enter a date or a time in ISO 8601.")
    .meta({ description: `${meaning}: a day of UTC, or a moment.`, examples: ["2026-11-24"] })
    .refine((text) => {
      // Years that a timestamp of PostgreSQL and of ISO 8601 both have, whatever the offset makes of it.
      const year = new Date(text).getUTCFullYear();
      return year >= 1 && year <= 9_998;
    }, "Enter a time between the years 1 and 9998.")
    .transform((text) => {
      const start = new Date(text);
      // A moment is known to a millisecond here, in the log to a microsecond.
      return { start, end: new Date(start.getTime() + (text.length === 10 ? DAY_MS : 1)) };
    });

const logQuery = {
  page: ListQuery.shape.page
    .unwrap()
    .optional()
    .meta({
      description: "Which page, from 1; deep pages are found faster by `cursor`.",
      examples: [1],
    }),
  page_size: ListQuery.shape.page_size,
  cursor: z
    .string()
    .max(64)
    .optional()
    .meta({
      description: "`next_cursor` of the page before; instead of `page`.",
      examples: ["MTc5NTQ4NjQwMDAwMDAwMC40Mg"],
    }),
  action: z
    .string()
    .max(50)
    .optional()
    .meta({ description: "What was done.", examples: ["UPDATE"] }),
  from: Moment("No entry before this").optional(),
  to: Moment("No entry after this").optional(),
};

/** What cannot be asked for together. */
function isConsistent(query: { page?: unknown; cursor?: unknown }): boolean {
  return query.page === undefined || query.cursor === undefined;
}
const INCONSISTENT = { error: "A page or a cursor, not both.", path: ["cursor"] };

export const ActivityQuery = z
  .strictObject({
    ...logQuery,
    company: FilterId("company"),
    entity_type: z
      .string()
      .max(50)
      .optional()
      .meta({ description: "What kind of row was changed.", examples: ["Company"] }),
    entity_id: Id.optional().meta({ description: "Which row of that kind.", examples: [3] }),
    user: FilterId("user", 7),
  })
  .refine(isConsistent, INCONSISTENT);

export const OwnActivityQuery = z.strictObject(logQuery).refine(isConsistent, INCONSISTENT);

export const SecurityQuery = z
  .strictObject({
    ...logQuery,
    user: Id.optional().meta({
      description: "Of this user, for admins of the tenant. The caller's own otherwise.",
      examples: [7],
    }),
    all: Flag(
      "`true`, for admins of the tenant: of everybody, and what is nobody's, such as a login of an unknown name.",
    ),
  })
  .refine(isConsistent, INCONSISTENT)
  .refine((query) => query.user === undefined || query.all !== true, {
    error: "One user or all, not both.",
    path: ["all"],
  });

const logEntry = {
  id: RowId,
  user: RowId.nullable().meta({ description: "Null: nobody who is known.", examples: [7] }),
  user_display: z.string().meta({ examples: ["ada@corp.io"] }),
  date: z.int().meta({ description: "The day, in UTC: YYYYMMDD.", examples: [20_261_124] }),
  action: z.string().meta({ examples: ["UPDATE"] }),
  ip_address: z
    .string()
    .nullable()
    .meta({ examples: ["203.0.113.7"] }),
  created_at: z.date(),
};
const values = z.record(z.string(), z.unknown());

export const ActivityEntry = z
  .object({
    ...logEntry,
    company: RowId.nullable().meta({ description: "Null: the whole tenant's." }),
    entity_type: z.string().meta({ examples: ["Company"] }),
    entity_id: RowId,
    old_values: values.meta({
      description: "The fields that changed, as they were.",
      examples: [{ name: "Acme" }],
    }),
    new_values: values.meta({
      description: "The fields that changed, as they are.",
      examples: [{ name: "Acme Ltd" }],
    }),
  })
  .meta({ id: "ActivityEntry", description: "What somebody changed." });
export type ActivityEntry = z.infer<typeof ActivityEntry>;

export const SecurityEntry = z
  .object({
    ...logEntry,
    action: z.string().meta({ examples: ["LOGIN_SUCCEEDED"] }),
    metadata: values.meta({ examples: [{ session: 12, second_factor: "none" }] }),
  })
  .meta({ id: "SecurityEntry", description: "What happened to an account." });
export type SecurityEntry = z.infer<typeof SecurityEntry>;

function logPageOf<Row extends z.ZodType>(row: Row) {
  return pageOf(row).extend({
    count: z.int().meta({
      description:
        "Entries that were found; counting ends at 10,000, which means that many or more.",
      examples: [1],
    }),
    next: z
      .url()
      .nullable()
      .meta({
        description: "The next page; null on the last. After a cursor, and past 10,000, by cursor.",
        examples: [null],
      }),
    previous: z
      .url()
      .nullable()
      .meta({
        description: "The page before; null on the first, and after a cursor.",
        examples: [null],
      }),
    next_cursor: z
      .string()
      .nullable()
      .meta({
        description: "Where the next page begins, at any depth; null on the last.",
        examples: ["MTc5NTQ4NjQwMDAwMDAwMC40Mg"],
      }),
  });
}
export const ActivityPage = logPageOf(ActivityEntry).meta({ id: "ActivityPage" });
export const SecurityPage = logPageOf(SecurityEntry).meta({ id: "SecurityPage" });

export const Notification = z
  .object({
    id: RowId,
    message: z.string().meta({ examples: ["You are Accountant of Acme Ltd now."] }),
    read: z.boolean().meta({ examples: [false] }),
    created_at: z.date(),
  })
  .meta({ id: "Notification", description: "What concerns the caller." });
export type Notification = z.infer<typeof Notification>;

export const NotificationsQuery = ListQuery.extend({
  unread: Flag("`true`: only those not read."),
});
export const NotificationsPage = pageOf(Notification)
  .extend({ unread_count: z.int().meta({ examples: [1] }) })
  .meta({ id: "NotificationsPage" });

export const MarkRead = z
  .strictObject({
    notification_id: RowId.optional(),
    all: z
      .literal(true)
      .optional()
      .meta({ description: "Instead of one: every one of the caller." }),
  })
  .refine((body) => (body.notification_id === undefined) !== (body.all === undefined), {
    error: "Name one notification, or all.",
    path: ["notification_id"],
  })
  .meta({ id: "MarkRead", examples: [{ notification_id: 3 }] });

export const VerificationQuery = z.strictObject({
  before_activity: Id.optional().meta({
    description: "Only seals of the activity log before this one.",
    examples: [120],
  }),
  before_security: Id.optional().meta({
    description: "Only seals of the security log before this one.",
    examples: [250],
  }),
});

const Finding = z.object({
  log: z.enum(["activity", "security"]),
  kind: z.enum([
    "edited",
    "deleted",
    "inserted",
    "reordered",
    "cut_off",
    "rehashed",
    "seal_changed",
    "seal_missing",
    "checkpoint_changed",
    "checkpoint_missing",
  ]),
  seal: z.int().meta({ examples: [12] }),
  entry_id: z
    .int()
    .nullable()
    .meta({
      description: "The entry; null when it is the seal itself, or cannot be said.",
      examples: [4711],
    }),
  detail: z.string().meta({ examples: ["Entry 4711 is not what was sealed."] }),
});

export const Verification = z
  .object({
    status: z.enum(["intact", "broken"]),
    logs: z.array(
      z.object({
        log: z.enum(["activity", "security"]),
        seals: z.int().meta({ description: "Seals there should be.", examples: [120] }),
        checked_entries: z.int().meta({ examples: [5_310] }),
        unsealed_entries: z.int().meta({ description: "Written a moment ago.", examples: [0] }),
        pending_checkpoints: z.int().meta({ examples: [0] }),
        oldest_seal: z
          .int()
          .nullable()
          .meta({
            description: "The oldest seal that was checked.",
            examples: [1],
          }),
        is_complete: z.boolean().meta({ description: "All was checked that is not pruned." }),
        findings: z.array(Finding).meta({ description: "At most 100.", examples: [[]] }),
      }),
    ),
  })
  .meta({ id: "Verification", description: "Whether the logs are what was written to them." });
