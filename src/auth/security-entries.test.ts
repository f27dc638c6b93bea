import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { SecurityAction } from "../audit/security-log.ts";
import {
  codeIn,
  newEmail,
  newPhone,
  PASSWORD,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestResponse,
  type TestTenant,
  wrongCode,
} from "../../test/app.ts";
import {
  type ProtectedUser,
  type SecondFactorCalls,
  secondFactorCalls,
  stopClock,
  totpCode,
  wrongTotpCode,
} from "../../test/second-factor.ts";
import { EnableSecondFactorAnswer } from "./schemas.ts";

let api: TestApp;
let tenant: TestTenant;
let calls: SecondFactorCalls;

beforeAll(async () => {
  api = await startTestApp();
  tenant = await api.createTenant();
  calls = secondFactorCalls(api, tenant);
});
afterAll(() => api.close());
beforeEach(stopClock);
afterEach(async () => {
  vi.restoreAllMocks();
  await tenant.sql`drop trigger if exists refuse on security_logs`;
});

const FROM = { remoteAddress: "192.0.2.44", headers: { "user-agent": "A browser" } };

const post = (path: string, body?: object, token?: string): Promise<TestResponse> =>
  api
    .client(tenant)
    .post(`/api/auth/${path}/`, body, { ...FROM, ...(token === undefined ? {} : { token }) });

interface Entry {
  action: string;
  user_id: number | null;
  ip: string;
  metadata: Record<string, unknown>;
}

const lastEntry = async () => {
  const [row] = await tenant.sql<{ id: number }[]>`
    select coalesce(max(id), 0) as id from security_logs`;
  return row?.id ?? 0;
};
const entriesAfter = (id: number) => tenant.sql<Entry[]>`
  select action, user_id, host(ip_address) as ip, metadata
    from security_logs where id > ${id} order by id`;

const logIn = ({ user }: SignedUpUser, password = PASSWORD) =>
  post("login", { identifier: user.username, password });

/** Something that happens to an account: what is to be there before, and the call itself. */
interface Event {
  readonly action: SecurityAction;
  /** Whether the log knows whose account it is. */
  readonly isKnown?: boolean;
  readonly metadata?: object;
  readonly status?: number;
  readonly prepare: () => Promise<{ user?: SignedUpUser; call: () => Promise<TestResponse> }>;
}

async function begun(): Promise<{ phone: string; code: string }> {
  const phone = newPhone();
  await post("signup", { full_name: "Ada Lovelace", primary_mobile: phone });
  return { phone, code: codeIn(await api.nextSms(phone)) };
}

async function enrolled(): Promise<ProtectedUser> {
  const user = await api.signUp(tenant);
  const { body } = await calls.enable(user, "totp");
  const { secret, backup_codes: backupCodes } = EnableSecondFactorAnswer.parse(body);
  return { ...user, secret: secret ?? "", backupCodes };
}

const SUCCESSES: readonly Event[] = [
  {
    action: "SIGNUP_REQUESTED",
    isKnown: false,
    status: 201,
    prepare: async () => ({
      call: () => post("signup", { full_name: "Ada", primary_mobile: newPhone() }),
    }),
  },
  {
    action: "OTP_RESENT",
    isKnown: false,
    prepare: async () => {
      const { phone } = await begun();
      return { call: () => post("resent-otp", { primary_mobile: phone }) };
    },
  },
  {
    action: "OTP_VERIFIED",
    isKnown: false,
    prepare: async () => {
      const { phone, code } = await begun();
      return { call: () => post("verify-otp", { primary_mobile: phone, otp: code }) };
    },
  },
  {
    action: "LOGIN_SUCCEEDED",
    metadata: { session: expect.any(Number), remembered: false, second_factor: "none" },
    prepare: async () => {
      const user = await api.signUp(tenant);
      return { user, call: () => logIn(user) };
    },
  },
  {
    action: "LOGIN_CHALLENGED",
    metadata: { method: "totp" },
    prepare: async () => {
      const user = await calls.totpUser();
      return { user, call: () => logIn(user) };
    },
  },
  {
    action: "LOGIN_SUCCEEDED",
    metadata: { session: expect.any(Number), remembered: false, second_factor: "totp" },
    prepare: async () => {
      const user = await calls.totpUser();
      const session_id = await calls.challenge(user);
      return {
        user,
        call: () => post("login-2fa-verify-code", { session_id, code: totpCode(user.secret) }),
      };
    },
  },
  {
    action: "LOGIN_SUCCEEDED",
    metadata: { session: expect.any(Number), remembered: false, second_factor: "backup" },
    prepare: async () => {
      const user = await calls.totpUser();
      const session_id = await calls.challenge(user);
      const [backup_code] = user.backupCodes;
      return { user, call: () => post("login-2fa-verify-backup", { session_id, backup_code }) };
    },
  },
  {
    action: "SECOND_FACTOR_SENT",
    prepare: async () => {
      const user = await calls.smsUser();
      const session_id = await calls.challenge(user);
      return { user, call: () => post("login-2fa-resend", { session_id }) };
    },
  },
  {
    action: "SECOND_FACTOR_ENROLLED",
    metadata: { method: "totp" },
    prepare: async () => {
      const user = await api.signUp(tenant);
      const body = { method: "totp", password: PASSWORD };
      return { user, call: () => post("settings_enable-2fa", body, user.access) };
    },
  },
  {
    action: "SECOND_FACTOR_ENABLED",
    metadata: { method: "totp" },
    prepare: async () => {
      const user = await enrolled();
      const body = { code: totpCode(user.secret) };
      return { user, call: () => post("settings_confirm-2fa", body, user.access) };
    },
  },
  {
    action: "SECOND_FACTOR_DISABLED",
    prepare: async () => {
      const user = await calls.totpUser();
      const body = { password: PASSWORD, code: totpCode(user.secret) };
      return { user, call: () => post("settings_disable-2fa", body, user.access) };
    },
  },
  {
    action: "BACKUP_CODES_REISSUED",
    prepare: async () => {
      const user = await calls.totpUser();
      const body = { password: PASSWORD };
      return { user, call: () => post("settings_backup-codes", body, user.access) };
    },
  },
  {
    action: "TOKEN_REFRESHED",
    metadata: { session: expect.any(Number) },
    prepare: async () => {
      const user = await api.signUp(tenant);
      return { user, call: () => post("token/refresh", { refresh: user.refresh }) };
    },
  },
  {
    action: "LOGOUT",
    status: 205,
    metadata: { session: expect.any(Number) },
    prepare: async () => {
      const user = await api.signUp(tenant);
      return { user, call: () => post("logout", { refresh: user.refresh }, user.access) };
    },
  },
  {
    action: "PASSWORD_CHANGED",
    metadata: { session: expect.any(Number) },
    prepare: async () => {
      const user = await api.signUp(tenant);
      const body = { current_password: PASSWORD, new_password: "another correct horse" };
      return { user, call: () => post("password/change", body, user.access) };
    },
  },
];

const REFUSALS: readonly Event[] = [
  {
    action: "OTP_FAILED",
    isKnown: false,
    status: 400,
    prepare: async () => {
      const { phone, code } = await begun();
      return { call: () => post("verify-otp", { primary_mobile: phone, otp: wrongCode(code) }) };
    },
  },
  {
    action: "OTP_BLOCKED",
    isKnown: false,
    status: 400,
    prepare: async () => {
      const { phone, code } = await begun();
      const wrong = { primary_mobile: phone, otp: wrongCode(code) };
      for (let index = 0; index < 3; index += 1) await post("verify-otp", wrong);
      return { call: () => post("verify-otp", { primary_mobile: phone, otp: code }) };
    },
  },
  {
    action: "LOGIN_FAILED",
    status: 401,
    prepare: async () => {
      const user = await api.signUp(tenant);
      return { user, call: () => logIn(user, "a wrong one") };
    },
  },
  {
    action: "LOGIN_FAILED",
    isKnown: false,
    status: 401,
    prepare: async () => ({
      call: () => post("login", { identifier: newEmail(), password: PASSWORD }),
    }),
  },
  {
    action: "LOGIN_LOCKED",
    status: 401,
    prepare: async () => {
      const user = await api.signUp(tenant);
      for (let index = 0; index < 5; index += 1) await logIn(user, "a wrong one");
      return { user, call: () => logIn(user) };
    },
  },
  {
    action: "SECOND_FACTOR_FAILED",
    status: 400,
    prepare: async () => {
      const user = await calls.totpUser();
      const session_id = await calls.challenge(user);
      const code = wrongTotpCode(user.secret);
      return { user, call: () => post("login-2fa-verify-code", { session_id, code }) };
    },
  },
  {
    action: "SECOND_FACTOR_LOCKED",
    status: 400,
    prepare: async () => {
      const user = await calls.totpUser();
      const session_id = await calls.challenge(user);
      for (let index = 0; index < 5; index += 1) {
        await calls.verify(session_id, wrongTotpCode(user.secret));
      }
      const code = totpCode(user.secret);
      return { user, call: () => post("login-2fa-verify-code", { session_id, code }) };
    },
  },
  {
    action: "PASSWORD_CONFIRMATION_FAILED",
    status: 401,
    prepare: async () => {
      const user = await api.signUp(tenant);
      const body = { method: "totp", password: "a wrong one" };
      return { user, call: () => post("settings_enable-2fa", body, user.access) };
    },
  },
  {
    action: "REFRESH_REUSED",
    status: 401,
    metadata: { session: expect.any(Number) },
    prepare: async () => {
      const user = await api.signUp(tenant);
      await post("token/refresh", { refresh: user.refresh });
      await tenant.sql`
        update login_sessions set refresh_rotated_at = now() - interval '31 seconds'
         where user_id = ${user.user.id}`;
      return { user, call: () => post("token/refresh", { refresh: user.refresh }) };
    },
  },
];

describe("the log of security events", () => {
  test.each([...SUCCESSES, ...REFUSALS].map((event) => [event.action, event.status ?? 200, event]))(
    "%s (%d): one entry with user, address, device and what is needed, no secret",
    async (action, status, { isKnown = true, metadata = {}, prepare }) => {
      const { user, call } = await prepare();
      const before = await lastEntry();

      const response = await call();

      expect(response.status).toBe(status);
      expect(await entriesAfter(before)).toEqual([
        {
          action,
          user_id: isKnown ? user?.user.id : null,
          ip: "192.0.2.44",
          metadata: { ...metadata, user_agent: "A browser" },
        },
      ]);
    },
  );
});

/** Everything about this tenant's accounts but what counts tries, which is written before they are made. */
async function snapshot(): Promise<unknown> {
  return {
    users: await tenant.sql`select * from users order by id`,
    signups: await tenant.sql`select * from signups order by primary_mobile, network`,
    sessions: await tenant.sql`select * from login_sessions order by id`,
    challenges: await tenant.sql`select * from login_challenges order by id`,
    factors: await tenant.sql`select * from second_factors order by user_id`,
    codes: await tenant.sql`select * from backup_codes order by id`,
    history: await tenant.sql`select * from password_history order by id`,
    entries: await tenant.sql`select count(*) from security_logs`,
  };
}

describe("an entry that cannot be written", () => {
  test.each(SUCCESSES.map((event) => [event.action, event]))(
    "%s: then what it tells of did not happen either",
    async (action, { prepare }) => {
      const { call } = await prepare();
      await tenant.sql.unsafe(`
        create or replace function refuse() returns trigger language plpgsql
          as $$ begin raise exception 'refused by a test'; end $$;
        create trigger refuse before insert on security_logs
          for each row when (new.action = '${action}') execute function refuse()`);
      const before = await snapshot();

      expect(await call()).toMatchObject({ status: 500, body: { code: "internal_error" } });

      expect(await snapshot()).toEqual(before);
    },
  );
});
