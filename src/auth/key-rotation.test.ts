import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  codeIn,
  newPhone,
  type SignedUpUser,
  startTestApp,
  type TestApp,
  type TestTenant,
} from "../../test/app.ts";
import {
  nextStep,
  secondFactorCalls,
  stopClock,
  totpCode,
  wrongTotpCode,
} from "../../test/second-factor.ts";
import { Tokens } from "./schemas.ts";

/** A process as before the rotation; one after it, which knows the previous keys; one that does not. */
let before: TestApp;
let after: TestApp;
let without: TestApp;
let tenant: TestTenant;

beforeAll(async () => {
  before = await startTestApp();
  const keys = {
    secretKey: "SECRET_KEY after the rotation, 32 characters and more",
    encryptionKey: "ENCRYPTION_KEY after the rotation, 32 characters and more",
  };
  const { secretKey: secretKeyPrevious, encryptionKey: encryptionKeyPrevious } = before.config;
  after = await before.startReplica({
    config: { ...keys, secretKeyPrevious, encryptionKeyPrevious },
  });
  without = await before.startReplica({ config: keys });
  // It cannot open what the others queued.
  await without.services.messages?.stop();
  tenant = await before.createTenant();
});
afterAll(() => before.close());
afterEach(() => vi.restoreAllMocks());

const refresh = (app: TestApp, token: string) =>
  app.client(tenant).post("/api/auth/token/refresh/", { refresh: token });
const loginOf = async ({ user }: SignedUpUser) => {
  const [row] = await tenant.sql`
    select refresh_counter, ended_at from login_sessions where user_id = ${user.id}`;
  return row;
};

describe("a refresh token of the previous SECRET_KEY", () => {
  test("is exchanged, and what comes out is of the new key", async () => {
    const user = await before.signUp(tenant);

    const response = await refresh(after, user.refresh);

    expect(response.status).toBe(200);
    const next = Tokens.parse(response.body).refresh;
    expect(await refresh(before, next)).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });
    expect((await refresh(without, next)).status).toBe(200);
  });

  test("is exchanged once: within the grace it gives the current one, later it ends the login", async () => {
    const user = await before.signUp(tenant);
    const next = Tokens.parse((await refresh(after, user.refresh)).body).refresh;
    expect(await refresh(after, user.refresh)).toMatchObject({ body: { refresh: next } });
    await tenant.sql`
      update login_sessions set refresh_rotated_at = now() - interval '31 seconds'
       where user_id = ${user.user.id}`;

    expect(await refresh(after, user.refresh)).toMatchObject({
      status: 401,
      body: { code: "refresh_reused" },
    });
    expect(await refresh(after, next)).toMatchObject({ body: { code: "token_revoked" } });
  });

  test("is refused where the previous key is not known, and the login goes on", async () => {
    const user = await before.signUp(tenant);

    expect(await refresh(without, user.refresh)).toMatchObject({
      status: 401,
      body: { code: "token_revoked" },
    });

    expect(await loginOf(user)).toEqual({ refresh_counter: 0, ended_at: null });
    expect((await refresh(before, user.refresh)).status).toBe(200);
  });
});

describe("codes that are on their way when SECRET_KEY changes", () => {
  test("a sign-up's code still verifies, and its proof still finishes", async () => {
    const phone = newPhone();
    await before
      .client(tenant)
      .post("/api/auth/signup/", { full_name: "Ada Lovelace", primary_mobile: phone });
    const body = { primary_mobile: phone, otp: codeIn(await before.nextSms(phone)) };

    const refused = await without.client(tenant).post("/api/auth/verify-otp/", body);
    const accepted = await after.client(tenant).post("/api/auth/verify-otp/", body);

    expect(refused).toMatchObject({ status: 400, body: { code: "invalid_otp" } });
    expect(accepted.status).toBe(200);
  });

  test("a login's code by SMS still finishes it", async () => {
    const user = await secondFactorCalls(before, tenant).smsUser();
    const session = await secondFactorCalls(before, tenant).challenge(user);
    const code = codeIn(await before.nextSms(user.user.primary_mobile));

    const refused = await secondFactorCalls(without, tenant).verify(session, code);
    const accepted = await secondFactorCalls(after, tenant).verify(session, code);

    expect(refused).toMatchObject({ status: 400, body: { code: "invalid_2fa_code" } });
    expect(accepted.status).toBe(200);
  });
});

describe("an authenticator's secret that the previous ENCRYPTION_KEY sealed", () => {
  beforeEach(stopClock);

  const sealedOf = async ({ user }: SignedUpUser) => {
    const [row] = await tenant.sql<{ sealed_secret: Uint8Array }[]>`
      select sealed_secret from second_factors where user_id = ${user.id}`;
    return row?.sealed_secret ?? new Uint8Array();
  };

  test("is sealed anew by the next code that is accepted, not by one that is refused", async () => {
    const user = await secondFactorCalls(before, tenant).totpUser();
    const calls = secondFactorCalls(after, tenant);
    const old = await sealedOf(user);
    expect(after.services.keys.isOutdated(old)).toBe(true);

    const session = await calls.challenge(user);
    await calls.verify(session, wrongTotpCode(user.secret));
    expect(await sealedOf(user)).toEqual(old);
    expect((await calls.verify(session, totpCode(user.secret))).status).toBe(200);

    const sealed = await sealedOf(user);
    expect(sealed).not.toEqual(old);
    expect(after.services.keys.isOutdated(sealed)).toBe(false);
    // From here on the previous key is needed for nothing of this user.
    nextStep();
    const later = secondFactorCalls(without, tenant);
    const last = await later.verify(await later.challenge(user), totpCode(user.secret));
    expect(last.status).toBe(200);
  });

  test("that is of the present key stays as it is", async () => {
    const calls = secondFactorCalls(before, tenant);
    const user = await calls.totpUser();
    const sealed = await sealedOf(user);

    await calls.verify(await calls.challenge(user), totpCode(user.secret));

    expect(await sealedOf(user)).toEqual(sealed);
  });

  test("opens nothing where that key is not known: nobody is logged in", async () => {
    const user = await secondFactorCalls(before, tenant).totpUser();
    const calls = secondFactorCalls(without, tenant);
    const sealed = await sealedOf(user);
    const session = await calls.challenge(user);

    expect(await calls.verify(session, totpCode(user.secret))).toMatchObject({
      status: 500,
      body: { code: "internal_error" },
    });

    expect(await sealedOf(user)).toEqual(sealed);
    const logins = await tenant.sql`
      select id from login_sessions where user_id = ${user.user.id}`;
    expect(logins).toHaveLength(1);
  });
});
