import type { FastifyRequest } from "fastify";
import type { RateLimitScope } from "../config.ts";
import type { Keys } from "../keys.ts";
import { addressOf, networkOf, wideNetworkOf } from "../networks.ts";
import { parsePhone } from "../phones.ts";
import type { Tenant } from "../tenants/directory.ts";

/** Bytes of a hash in a key: 128 bits, so that two callers never share a counter by chance. */
const HASH_BYTES = 16;

/** The counter of whoever calls from the same address (IPv6: the same /64). */
export function networkKey(scope: RateLimitScope, request: FastifyRequest): string {
  return `${scope}:${tenantOf(request)}:ip:${networkOf(ipOf(request))}`;
}

/** The counter of the logged-in user. */
export function userKey(scope: RateLimitScope, request: FastifyRequest): string {
  return `${scope}:${tenantOf(request)}:user:${request.principal.userId}`;
}

/**
 * The counter of the account a login is tried on, as far as the caller's part of the network goes: who
 * has many addresses in one place has no more tries for it, and who is elsewhere does not use up those
 * of its owner.
 */
export function loginKey(keys: Keys, request: FastifyRequest): string {
  const text = fieldOf(request, "identifier")?.trim().toLowerCase();
  if (text === undefined) throw namesNobody("login", request);
  // One spelling of a number, as the account is looked for.
  const identifier = hashed(keys, request, parsePhone(text) ?? text);
  return `login:${tenantOf(request)}:identifier:${identifier}:${wideNetworkOf(ipOf(request))}`;
}

/**
 * The counter of whom a code is sent to: the logged-in user, or the phone number or the pending login
 * that the body names. By part of the network, as for {@link loginKey}.
 */
export function otpSendKey(keys: Keys, request: FastifyRequest): string {
  return `${recipientKey("otpSend", keys, request)}:${wideNetworkOf(ipOf(request))}`;
}

/**
 * The counter of whose codes are tried. A phone number is anybody's to name, so it goes by part of the
 * network; a pending login's id and an access token are the owner's alone and go wherever they are.
 */
export function otpVerifyKey(keys: Keys, request: FastifyRequest): string {
  const key = recipientKey("otpVerify", keys, request);
  const isPhone = fieldOf(request, "primary_mobile") !== undefined && isPublic(request);
  return isPhone ? `${key}:${wideNetworkOf(ipOf(request))}` : key;
}

function recipientKey(scope: RateLimitScope, keys: Keys, request: FastifyRequest): string {
  if (!isPublic(request)) return userKey(scope, request);
  const phone = fieldOf(request, "primary_mobile");
  if (phone !== undefined) {
    return `${scope}:${tenantOf(request)}:phone:${hashed(keys, request, phone)}`;
  }
  const session = fieldOf(request, "session_id");
  if (session !== undefined) {
    return `${scope}:${tenantOf(request)}:session:${hashed(keys, request, session)}`;
  }
  throw namesNobody(scope, request);
}

function isPublic(request: FastifyRequest): boolean {
  return request.routeOptions.config.guard === "public";
}

/** The tenant's id; requests that name none, or an unknown one, share what they may do. */
function tenantOf(request: FastifyRequest): string {
  // Undefined before the tenant is found, and outside of tenants.
  const tenant: Tenant | undefined = request.tenantInfo;
  return tenant === undefined ? "none" : String(tenant.id);
}

function ipOf(request: FastifyRequest): string {
  return addressOf(request.ip, request.socket.remoteAddress);
}

/** Neither Redis nor a dump of memory says whose numbers and addresses were entered. */
function hashed(keys: Keys, request: FastifyRequest, value: string): string {
  const mac = keys.mac("rate-limit", tenantOf(request), value);
  return mac.subarray(0, HASH_BYTES).toString("base64url");
}

/** A field of the body, which has been validated. */
function fieldOf({ body }: FastifyRequest, name: string): string | undefined {
  if (typeof body !== "object" || body === null) return undefined;
  const value: unknown = Reflect.get(body, name);
  return typeof value === "string" ? value : undefined;
}

/** A mistake in a route's declaration, which its first test meets: never a request without a limit. */
function namesNobody(scope: RateLimitScope, { routeOptions }: FastifyRequest): Error {
  return new Error(
    `${routeOptions.url} has the limit ${scope}, but nobody it could be counted for`,
  );
}
