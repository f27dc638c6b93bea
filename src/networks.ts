import { isIP, isIPv4 } from "node:net";

/** Stands for every address that is none: those who have it are counted as one. */
const NO_ADDRESS = "0.0.0.0";

/**
 * The caller's address as PostgreSQL stores one: without the zone of a link-local address, an IPv4
 * address as such, without a port. A proxy may have written anything (`unknown`); then it is the
 * address of `peer`, the proxy itself.
 */
export function addressOf(written: string, peer: string | undefined): string {
  return parseAddress(written) ?? parseAddress(peer ?? "") ?? NO_ADDRESS;
}

/**
 * What one host can choose its address from: an IPv4 address, or the /64 of an IPv6 address
 * (RFC 4291 §2.5.4). In CIDR notation, as PostgreSQL reads it.
 */
export function networkOf(ip: string): string {
  const address = parseAddress(ip) ?? NO_ADDRESS;
  return isIPv4(address) ? `${address}/32` : `${groupsOf(address).slice(0, 4).join(":")}::/64`;
}

/**
 * What one customer of a provider is usually given at most: 256 IPv4 addresses, or the /48 of an IPv6
 * address (RFC 6177 §2). In CIDR notation, as PostgreSQL reads it.
 */
export function wideNetworkOf(ip: string): string {
  const address = parseAddress(ip) ?? NO_ADDRESS;
  return isIPv4(address)
    ? `${address.split(".").slice(0, 3).join(".")}.0/24`
    : `${groupsOf(address).slice(0, 3).join(":")}::/48`;
}

/** An address and its port, as some proxies write it: `192.0.2.1:4711`, `[2001:db8::1]:443`. */
const WITH_PORT = /^(?:\[(?<v6>[^\]]+)\]|(?<v4>\d+\.\d+\.\d+\.\d+))(?::\d+)?$/;

function parseAddress(text: string): string | undefined {
  if (isIPv4(text)) return text;
  const { v6, v4 } = WITH_PORT.exec(text)?.groups ?? {};
  const [address = ""] = (v6 ?? v4 ?? text).split("%");
  const version = isIP(address);
  if (version === 0) return undefined;
  return version === 6 ? (mappedIPv4(address) ?? address) : address;
}

/** The IPv4 address that an IPv6 address stands for (RFC 4291 §2.5.5.2), however it is written. */
function mappedIPv4(address: string): string | undefined {
  const groups = groupsOf(address);
  if (groups.slice(0, 6).join(":") !== "0:0:0:0:0:ffff") return undefined;
  const [high = 0, low = 0] = groups.slice(6).map((group) => Number.parseInt(group, 16));
  return [high >> 8, high & 0xff, low >> 8, low & 0xff].join(".");
}

/** The eight groups of a valid IPv6 address, in lower case without leading zeros. */
function groupsOf(address: string): string[] {
  const [head = "", tail] = address.replace(/\d+\.\d+\.\d+\.\d+$/, lastGroups).split("::");
  const groups = head.split(":").filter((group) => group !== "");
  if (tail !== undefined) {
    const last = tail.split(":").filter((group) => group !== "");
    groups.push(...Array.from({ length: 8 - groups.length - last.length }, () => "0"), ...last);
  }
  return groups.map((group) => Number.parseInt(group, 16).toString(16));
}

/** The two groups that a dotted end of an address stands for (RFC 4291 §2.2). */
function lastGroups(dotted: string): string {
  const [a = 0, b = 0, c = 0, d = 0] = dotted.split(".").map(Number);
  return `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
}
