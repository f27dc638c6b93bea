import { isIPv4 } from "node:net";
import { describe, expect, test } from "vitest";
import { addressOf, networkOf, wideNetworkOf } from "./networks.ts";

describe("addressOf", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["192.0.2.1:4711", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::FFFF:c000:201", "192.0.2.1"],
    ["0:0:0:0:0:ffff:192.0.2.1", "192.0.2.1"],
    ["2001:db8::1", "2001:db8::1"],
    ["[2001:db8::1]", "2001:db8::1"],
    ["[2001:db8::1]:443", "2001:db8::1"],
    ["fe80::1%eth0", "fe80::1"],
  ])("%s is %s", (written, address) => {
    expect(addressOf(written, "198.51.100.1")).toBe(address);
  });

  test.each([
    "unknown",
    "",
    "_hidden",
    "192.0.2",
    "192.0.2.256",
    "::1::2",
    "2001:db8::1, 192.0.2.1",
  ])('what a proxy wrote instead of an address, "%s", is the proxy\'s own', (written) => {
    expect(addressOf(written, "::ffff:198.51.100.1")).toBe("198.51.100.1");
    expect(addressOf(written, undefined)).toBe("0.0.0.0");
  });
});

describe("networkOf", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1/32"],
    ["::ffff:192.0.2.1", "192.0.2.1/32"],
    ["::FFFF:192.0.2.1", "192.0.2.1/32"],
    ["::ffff:c000:201", "192.0.2.1/32"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:0001:2::6", "2001:db8:1:2::/64"],
    ["2001:db8::6", "2001:db8:0:0::/64"],
    ["2001:db8::1:2:3:4:5", "2001:db8:0:1::/64"],
    ["::1", "0:0:0:0::/64"],
    ["::", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["64:ff9b::192.0.2.1", "64:ff9b:0:0::/64"],
    ["1::192.0.2.1", "1:0:0:0::/64"],
    ["1:2:3:4:5:6:192.0.2.1", "1:2:3:4::/64"],
    ["unknown", "0.0.0.0/32"],
  ])("%s counts as %s", (ip, network) => {
    expect(networkOf(ip)).toBe(network);
  });

  test("addresses of one /64 count as one, of two as two", () => {
    expect(networkOf("2001:db8:1:2::1")).toBe(networkOf("2001:db8:1:2:ffff::1"));
    expect(networkOf("2001:db8:1:2::1")).not.toBe(networkOf("2001:db8:1:3::1"));
  });
});

describe("wideNetworkOf", () => {
  test.each([
    ["192.0.2.77", "192.0.2.0/24"],
    ["::ffff:192.0.2.77", "192.0.2.0/24"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1::/48"],
    ["2001:db8::6", "2001:db8:0::/48"],
    ["::1", "0:0:0::/48"],
    ["unknown", "0.0.0.0/24"],
  ])("%s is of %s", (ip, network) => {
    expect(wideNetworkOf(ip)).toBe(network);
  });

  test("holds the network of each of its addresses", () => {
    for (const ip of ["192.0.2.77", "2001:db8:1:2:3:4:5:6"]) {
      const [prefix = ""] = wideNetworkOf(ip).split(isIPv4(ip) ? "0/" : ":/");
      expect(networkOf(ip).startsWith(prefix)).toBe(true);
    }
  });
});
