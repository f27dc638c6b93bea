import { describe, expect, test } from "vitest";
import { AppError } from "../errors.ts";
import { parseSubdomain } from "./subdomains.ts";

describe("parseSubdomain", () => {
  test.each(["acme", "a1c", "my-company", "x".repeat(63), "a--b"])("accepts %s", (text) => {
    expect(parseSubdomain(text)).toBe(text);
  });

  test("stores lower case without the blanks around it", () => {
    expect(parseSubdomain(" AcMe ")).toBe("acme");
  });

  test.each([
    "",
    "ab",
    "-acme",
    "acme-",
    "a_b",
    "a.b",
    "a b",
    "xn--caf-dma",
    "café",
    "x".repeat(64),
    "acme; drop",
    "admin",
    "ADMIN",
    "www",
    "api",
  ])("refuses %j", (text) => {
    expect(() => parseSubdomain(text)).toThrow(AppError);
  });
});
